"""Networks under attack: what is counted, compared, written and refused."""

from __future__ import annotations

import csv
import io
import json

import pytest
import torch
from torch import nn

import campfire_fx
from campfire_fx.app.robustness import AttackRecord, Normalisation, attack, fgsm
from campfire_fx.base.errors import AttackError
from tests.report.small import damaged

PLAIN = Normalisation((0.5,), (0.25,))
EPSILONS = (0.02, 0.1, 0.3)


def batches(n: int = 24, size: int = 8) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.rand(n, 3, 8, 8, generator=generator), torch.randint(0, 5, (n,), generator=generator)
    return list(zip(x.split(size), y.split(size), strict=True))


def as_it_answers(net: nn.Module) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The images with the network's own answers as classes, so that all of them are right."""
    with torch.no_grad():
        return [(x, net.eval()(PLAIN(x)).argmax(1)) for x, _ in batches()]


def test_counts_are_those_of_single_steps() -> None:
    net = damaged()
    data = as_it_answers(net)[:2] + batches()[2:]
    record = attack({"net": net}, data, EPSILONS, normalisation=PLAIN)
    assert record.epsilons == (0.0, *EPSILONS) and record.images == 24
    for epsilon, right in zip(record.epsilons, record.curves[0].right, strict=True):
        known = 0
        for x, y in data:
            with torch.no_grad():
                before = net(PLAIN(x)).argmax(1) == y
            moved = fgsm(net, x, y, epsilon, normalisation=PLAIN)
            known += int((before & (net(PLAIN(moved)).argmax(1) == y)).sum())
        assert right == known
    assert record.curves[0].right[0] >= 16 > record.curves[0].right[-1]


def test_an_image_that_was_wrong_stays_wrong() -> None:
    """A network whose answer flips with any step: what it got wrong must not count as right afterwards."""

    class Flip(nn.Module):
        def __init__(self, start: torch.Tensor) -> None:
            super().__init__()
            self.start = start

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            moved = (x - self.start).flatten(1).abs().amax(1) > 1e-3
            return torch.stack([moved.float(), (~moved).float()], 1) * 5 + x.mean((1, 2, 3))[:, None] * torch.eye(2)[0]

    x = torch.full((4, 1, 2, 2), 0.5)
    record = attack(
        {"flip": Flip(x)}, [(x, torch.tensor([0, 0, 0, 1]))], [0.1], normalisation=Normalisation((0,), (1,))
    )
    assert record.curves[0].right == (1, 0)


def test_slim_answers_as_sparse_does() -> None:
    net = damaged()
    slim = campfire_fx.shrink(net, torch.randn(2, 3, 8, 8))
    record = attack({"sparse": net, "slim": slim}, as_it_answers(net), EPSILONS, normalisation=PLAIN)
    sparse, shrunk = record.curves
    assert sparse.right == shrunk.right
    assert [interval.value for interval in shrunk.against] == [0.0] * 4
    assert all(interval.low < 0 < interval.high for interval in shrunk.against)


def test_differences_are_paired() -> None:
    first, second = damaged(), damaged()
    with torch.no_grad():
        second.head.bias[0] += 3
    record = attack({"a": first, "b": second}, as_it_answers(first), [0.1], normalisation=PLAIN)
    a, b = record.curves
    for i in range(2):
        assert b.against[i].value == pytest.approx((b.right[i] - a.right[i]) / record.images)
    assert b.right[0] < a.right[0] == 24
    assert [interval.value for interval in a.against] == [0.0, 0.0]


def test_images_without_a_gradient_are_told() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 5))
    with torch.no_grad():
        net[1].weight.zero_()
    record = attack({"flat": net}, batches(), [0.1], normalisation=PLAIN)
    assert record.curves[0].unmoved == 24
    assert record.curves[0].right[0] == record.curves[0].right[1]


def test_json_comes_back_and_csv_agrees() -> None:
    net = damaged()
    record = attack({"a": net, "b": net}, as_it_answers(net), EPSILONS, normalisation=PLAIN, space="normalised")
    assert AttackRecord.from_json(record.to_json()) == record
    facts = json.loads(record.to_json())
    assert facts["curves"][0]["accuracy"][0] == {"value": 1.0, "low": pytest.approx(0.862, abs=1e-3), "high": 1.0}
    rows = list(csv.DictReader(io.StringIO(record.to_csv())))
    assert [int(row["right"]) for row in rows] == [*record.curves[0].right, *record.curves[1].right]
    assert [float(row["epsilon"]) for row in rows[:4]] == [0, *EPSILONS]
    assert {row["space"] for row in rows} == {"normalised"}
    assert all(float(row["accuracy"]) == pytest.approx(int(row["right"]) / 24, abs=1e-6) for row in rows)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"epsilons": [0], "space": "raw", "images": 3, "curves": [1]}'])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(AttackError, match="Attack record: it cannot be read"):
        AttackRecord.from_json(text)


@pytest.mark.parametrize(("networks", "data", "epsilons", "text"), [
    ({}, batches(), [0.1], "no network to attack"),
    ({"net": damaged()}, [], [0.1], "no image to attack"),
    ({"net": damaged()}, [torch.rand(2, 3, 8, 8)], [0.1], "not a pair"),
    ({"net": damaged()}, batches(), [0.1, -1], "Epsilon -1"),
    ({"good": damaged(), "bad": nn.Conv2d(3, 5, 3)}, batches(), [0.1], "bad: Network: it gives shape"),
])  # fmt: skip
def test_what_cannot_be_attacked_is_named(networks, data, epsilons, text: str) -> None:
    with pytest.raises(AttackError, match=text):
        attack(networks, data, epsilons, normalisation=PLAIN)
