"""A submodule whose code cannot be followed is a leaf of the graph around it; inside it, what can be is captured."""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from campfire_fx import shrink
from campfire_fx.analysis.captured import Captured
from campfire_fx.capture import trace
from campfire_fx.capture import whole as whole_module
from tests.capture.checks import assert_trains_alike, call, same
from tests.random_zeros import zero_filters
from tests.snapshot import Snapshot, assert_untouched

X, OTHER = torch.randn(2, 3, 10, 10), torch.randn(3, 3, 12, 14)


def block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())


class Branch(nn.Module):
    """Code that looks at data, without weights."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flip(1) if float(x.mean()) > 1e6 else x + 1  # here


class Gate(nn.Module):
    """Code that looks at data, around parts that can be captured and a layer that it calls itself."""

    def __init__(self) -> None:
        super().__init__()
        self.score, self.one, self.two = nn.Linear(4, 1), nn.Sequential(block(4, 4), block(4, 4)), block(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        return x if self.score(x.mean((2, 3))).sum() > 1e6 else self.two(x)


class Model(nn.Module):
    """Two opaque parts, one of them deep inside, in code that can be followed."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = block(3, 4)
        self.stage = nn.Sequential(block(4, 4), Gate(), block(4, 4))
        self.branch, self.tail = Branch(), block(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.tail(self.branch(x + self.stage(x)))


def captured_around(model: nn.Module, example: Any = X, other: Any = OTHER) -> Captured:
    """Trace; check that one graph came out, that runs like the model in both modes and shares its parameters."""
    model.eval()
    snapshot, state = Snapshot.of(model), copy.deepcopy(model.state_dict())
    captured = trace(model, example)
    assert_untouched(model, snapshot)
    assert captured.whole and captured.module is captured.islands[0].module
    assert list(captured.module.state_dict()) == list(state)
    assert {id(p) for p in captured.module.parameters()} == {id(p) for p in model.parameters()}
    for inputs in (example, other):
        with torch.no_grad():
            assert same(call(captured.module, inputs), call(model, inputs))
        assert_trains_alike(captured.module, model, inputs)
    return captured


def test_the_graph_goes_on_around_opaque_parts() -> None:
    captured = captured_around(Model())
    whole = captured.islands[0]
    assert whole.opaque == ("stage.1", "branch")
    called = [node.target for node in whole.module.graph.nodes if node.op == "call_module"]
    assert "stage.1" in called and "branch" in called and "tail.0" in called and "stage.1.score" not in called
    assert [island.path for island in captured.islands] == ["", "stage.1.one", "stage.1.two"]


def test_each_opaque_part_is_named_with_its_line() -> None:
    reasons = dict(trace(Model(), X).untraced)
    assert reasons.keys() == {"stage.1", "stage.1.score", "branch"}
    assert "Control flow at test_opaque.py:" in reasons["stage.1"]
    source = Path(__file__).read_text().splitlines()
    line = next(number for number, text in enumerate(source, 1) if text.endswith("# here"))
    assert f"test_opaque.py:{line}:" in reasons["branch"]


def test_copies_and_pickles_carry_the_parts() -> None:
    captured = captured_around(Model())
    for again in (copy.deepcopy(captured.module), pickle.loads(pickle.dumps(captured.module))):
        assert same(again.eval()(X), captured.module.eval()(X))


def test_one_more_trace_for_each_part(monkeypatch: pytest.MonkeyPatch) -> None:
    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.gates = block(3, 4), nn.Sequential(*(Gate() for _ in range(5)))

        def forward(self, x: Tensor) -> Tensor:
            return self.gates(self.stem(x))

    traces: list[str] = []
    real = whole_module.trace_once

    def counted(survey: Any, *args: Any, **options: Any) -> Any:
        traces.append(type(survey.root).__name__)
        return real(survey, *args, **options)

    monkeypatch.setattr(whole_module, "trace_once", counted)
    trace(Deep().eval(), X)
    assert traces.count("Deep") == 6 and traces.count("Gate") == 0


class WritesInput(nn.Module):
    """What reads the input later sees what this wrote: no leaf may do that."""

    def forward(self, x: Tensor) -> Tensor:
        return x.add_(1) if float(x.mean()) < 1e6 else x


class GivesNumber(nn.Module):
    """A number out of data would steer the code around it."""

    def forward(self, x: Tensor) -> Any:
        return x, 1 if x.mean() < 1e6 else 2


@pytest.mark.parametrize("part", [WritesInput(), GivesNumber()])
def test_what_is_no_operation_is_no_leaf(part: nn.Module) -> None:
    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.part, self.tail = block(3, 4), part, block(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            y = self.part(x)
            y = y[0] * y[1] if isinstance(y, tuple) else y
            return self.tail(x + y)

    captured = trace(Around().eval(), X)
    assert not captured.whole and [island.path for island in captured.islands] == ["stem", "tail"]


def test_parameters_read_from_outside_are_in_no_island() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.tail = block(3, 4), block(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x) if x.sum() < 1e9 else x
            return self.tail(x) * self.tail[0].weight.mean()

    captured = trace(Tied().eval(), X)
    assert [island.path for island in captured.islands] == ["stem"]
    assert ("tail", "code outside of it uses parts of it") in captured.untraced


@pytest.mark.parametrize("residual", ["union", "gate"])
def test_what_is_around_and_inside_shrinks(residual: str) -> None:
    torch.manual_seed(0)
    model = Model().eval()
    with torch.no_grad():
        for layer in (model.stem[0], model.stage[1].one[0][0], model.stage[0][0], model.tail[0]):
            layer.weight[0], layer.bias[0] = 0, 0
    slim = shrink(model, X, residual=residual)
    assert slim.verification is not None and slim.verification.difference < 1e-5
    before, after = model.state_dict(), slim.state_dict()
    assert len(before["stage.1.one.0.0.weight"]) == 4 and len(after["stage.1.one.0.0.weight"]) == 3
    with torch.no_grad():
        assert torch.allclose(slim(OTHER), model(OTHER), atol=1e-6)


def test_a_choice_on_the_last_bit_does_not_spoil_the_proof() -> None:
    class Picky(nn.Module):
        """Gives something else as soon as one bit of its input is another."""

        def forward(self, x: Tensor) -> Tensor:
            bits = x.contiguous().view(torch.int32).sum()
            return x if int(bits) % 2 else -x

    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.more, self.part, self.tail = block(3, 16), block(16, 8), Picky(), block(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.tail(self.part(self.more(self.stem(x))))

    for seed in range(8):  # in about half of these the last bit differs
        torch.manual_seed(seed)
        model = Around().eval()
        with torch.no_grad():
            model.stem[0].weight[::2] = 0
        proof = shrink(model, X).verification
        assert proof is not None and proof.difference < 1e-5


@pytest.mark.parametrize("model", [Model(), block(3, 4)])
def test_inside_inference_mode(model: nn.Module) -> None:
    model.eval()
    with torch.inference_mode():
        slim = shrink(model, torch.randn(2, 3, 10, 10))
    assert not any(p.is_inference() for p in slim.parameters())
    slim.train()(X).sum().backward()


class Chosen(nn.Module):
    """Code that looks at data and at a numpy array that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = block(4, 4)

    def forward(self, x: Tensor, places: np.ndarray) -> Tensor:
        return self.conv(x) if len(np.flatnonzero(places)) == 0 and float(x.mean()) < 1e6 else x


class GivesArray(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.chosen, self.tail = block(3, 4), Chosen(), block(4, 2)

    def forward(self, x: Tensor, places: np.ndarray) -> Tensor:
        return self.tail(self.chosen(self.stem(x), places))


class AroundArray(nn.Module):
    """What makes the array cannot be captured, so its parts are captured for themselves."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.inner, self.shape = GivesArray(), shape

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x, np.zeros(self.shape))


@pytest.mark.parametrize("shape", [(0,), (2, 3)])
def test_a_numpy_array_is_an_input_of_a_part(shape: tuple[int, ...]) -> None:
    model = AroundArray(shape).double().eval()
    zero_filters(model.inner.stem[0], (1, 2))
    captured = trace(model, X.double())
    assert [island.path for island in captured.islands] == ["inner", "inner.chosen.conv"]
    slim = shrink(model, X.double())
    assert slim.verification is not None and same(slim(OTHER.double()).shape, model(OTHER.double()).shape)


class Answers(OrderedDict):
    """A dict that is read by key, by place and by name, and does not let itself be updated, as transformers has it."""

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        super().__setattr__(key, value)

    def __getitem__(self, key: Any) -> Any:
        return list(self.values())[key] if isinstance(key, int) else super().__getitem__(key)

    def update(self, *args: Any, **kwargs: Any) -> None:
        raise RuntimeError("this cannot be updated")


class Pair(NamedTuple):
    low: Tensor
    high: Tensor | None


class GivesOwnContainer(nn.Module):
    """Opaque, and its output is read by names."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.conv, self.kind = block(4, 4), kind

    def forward(self, x: Tensor) -> Any:
        y = self.conv(x) if float(x.mean()) < 1e6 else x
        if self.kind == "pair":
            return Pair(y, None)
        answers = Answers() if self.kind == "answers" else {}
        answers["low"], answers["none"], answers["high"] = y, None, [y + 1]
        return answers


class ReadsContainer(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.stem, self.part, self.tail, self.kind = block(3, 4), GivesOwnContainer(kind), block(4, 2), kind

    def forward(self, x: Tensor) -> Any:
        y = self.part(self.stem(x))
        if self.kind == "pair":
            low, high = y
            assert y.high is None and high is None and type(y) is Pair
            return self.tail(y.low + low)
        assert list(y) == ["low", "none", "high"] and "low" in y and y["none"] is None
        more = dict(y, extra=1)
        if self.kind == "plain":
            return self.tail(more["low"] + y.get("high")[0])
        assert type(y) is Answers and y[0] is y.low is y["low"]
        y["tail"] = self.tail(y[0] + y.high[0])
        return y


@pytest.mark.parametrize("kind", ["answers", "pair", "plain"])
def test_containers_that_opaque_parts_give_are_read_as_python_does(kind: str) -> None:
    captured_around(ReadsContainer(kind))
    model = ReadsContainer(kind).double().eval()
    zero_filters(model.stem[0], (1, 2))
    zero_filters(model.part.conv[0], (0,))
    slim = shrink(model, X.double())
    got, expected = slim(OTHER.double()), model(OTHER.double())
    if kind == "answers":
        assert type(got) is Answers and got.keys() == expected.keys()
        got, expected = got.tail, expected.tail
    torch.testing.assert_close(got, expected)
    assert any(name.endswith("conv.0") for name in [change.name for change in slim.plan.layers])


def test_a_model_in_parts_gives_a_dict_that_forbids_updates() -> None:
    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.tail = ReadsContainer("answers"), nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            answers = self.inner(x)
            return answers["tail"] if float(answers.tail.mean()) < 1e6 else x

    captured = trace(Around().eval(), X)
    assert captured.islands[0].path == "inner"
