"""The model given is, after everything that is done with it, to the bit what it was; also where that fails."""

from __future__ import annotations

import contextlib
import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import campfire_fx
from campfire_fx.base.errors import CampfireError
from campfire_fx.shrink import pipeline, verify
from tests.assertions import assert_same_output
from tests.random_zeros import zero_filters
from tests.snapshot import Snapshot, assert_untouched

X = torch.randn(2, 3, 10, 10)


class Net(nn.Module):
    """Two convolutions with dead filters around a part that is given."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.first, self.part, self.last = nn.Conv2d(3, 8, 3, padding=1), part, nn.Conv2d(8, 4, 1)
        zero_filters(self.first, (1, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.part(self.first(x).relu()))


class MaxNorm(nn.Conv2d):
    """Bounds its filters as it runs, as nets for EEG do."""

    def forward(self, x: Tensor) -> Tensor:
        self.weight.data = torch.renorm(self.weight.data, p=2, dim=0, maxnorm=0.2)
        return super().forward(x)


class Clips(nn.Conv2d):
    """Writes into the memory of its weight as it runs."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.weight.clamp_(-0.1, 0.1)
        return super().forward(x)


class ClipsBehindTheGraph(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        self.weight.data.clamp_(-0.1, 0.1)
        return super().forward(x)


class Meter(nn.Module):
    """Has a state that moves in evaluation too."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("peak", torch.zeros(8))
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        self.peak.copy_(torch.maximum(self.peak, x.detach().abs().amax((0, 2, 3))))
        self.calls += 1
        return x


class Replaces(nn.Module):
    """Puts another tensor in the place of its buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("level", torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        self.level = self.level * 0.9 + x.detach().mean((0, 2, 3)) * 0.1
        return x


class Keeps(nn.Module):
    """Keeps what it sees, in a list in a dict in an object."""

    class Record:
        def __init__(self) -> None:
            self.seen: dict[str, list[Any]] = {"means": [], "last": []}

    def __init__(self) -> None:
        super().__init__()
        self.record = Keeps.Record()

    def forward(self, x: Tensor) -> Tensor:
        self.record.seen["means"].append(x.mean())
        self.record.seen["last"] = [x]
        return x


class KeepsOutOfSight(Keeps):
    """Keeps what it sees, and decides by values, so that nobody can look into it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 1)
        self.register_buffer("level", torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(self.conv(x))
        self.level = self.level + x.detach().mean((0, 2, 3))
        self.conv.weight.data.mul_(1.0)
        return x * 2 if bool(x.abs().max() > 1e9) else x


class Renormed(nn.Module):
    """Has torch write to its weight in evaluation: an embedding with a largest norm."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(4, 8, max_norm=0.1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table(torch.arange(1, device=x.device)).view(1, 8, 1, 1)


PARTS: dict[str, Callable[[], nn.Module]] = {
    "max norm": lambda: MaxNorm(8, 8, 3, padding=1),
    "clips": lambda: Clips(8, 8, 3, padding=1),
    "clips behind the graph": lambda: ClipsBehindTheGraph(8, 8, 3, padding=1),
    "meter": Meter,
    "replaces": Replaces,
    "keeps": Keeps,
    "keeps out of sight": KeepsOutOfSight,
    "renormed": Renormed,
    "statistics that move": lambda: nn.BatchNorm2d(8, momentum=None),
}
USES: dict[str, Callable[[nn.Module], Any]] = {
    "shrink": lambda net: campfire_fx.shrink(net, X).report(),
    "sparsify": lambda net: campfire_fx.sparsify(net, example_inputs=X),
    "trace": lambda net: campfire_fx.trace(net, X),
    "dependency graph": lambda net: campfire_fx.dependency_graph(net, X),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("part", PARTS)
def test_whatever_a_forward_does(part: str, use: str) -> None:
    net = Net(PARTS[part]())
    net.part.eval()
    net(X).sum().backward()  # it may have kept something already, and has gradients
    net.first.bias.requires_grad_(False)
    snapshot = Snapshot.of(net)
    USES[use](net)
    assert_untouched(net, snapshot)


@pytest.mark.parametrize("part", PARTS)
def test_the_slim_model_has_the_same_state_and_nothing_fake(part: str) -> None:
    net = Net(PARTS[part]()).eval()
    slim = campfire_fx.shrink(net, X)
    for module in slim.modules():
        for name, value in (*vars(module).items(), *module._buffers.items(), *module._parameters.items()):
            assert not isinstance(value, Tensor) or (type(value) in (Tensor, nn.Parameter) and not value.is_meta), name
    state, expected = slim.state_dict(), net.state_dict()
    for name in [name for name in ("part.calls", "part.peak", "part.level") if name in state]:
        assert torch.equal(state[name], expected[name]), name
    pickle.loads(pickle.dumps(slim))
    assert_same_output(copy.deepcopy(net), copy.deepcopy(slim), (X,))
    assert_same_output(net, slim, (torch.randn(3, 3, 12, 14),))


class Fails(nn.Module):
    """Fails in the call of a number; keeps a count, a tensor, and a hook on itself, and changes its weight."""

    def __init__(self, when: Callable[[Tensor], bool]) -> None:
        super().__init__()
        self.conv, self.calls, self.when = nn.Conv2d(8, 8, 1), 0, when
        self.register_buffer("peak", torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.last = x
        self.conv.weight.data = self.conv.weight.data * 0.5
        self.peak += 1
        if self.when(x):
            raise ValueError("no further")
        return F.relu(self.conv(x))


FAILURES: dict[str, Callable[[Tensor], bool]] = {
    "at once": lambda x: True,
    "on real numbers": lambda x: type(x) is Tensor,
    "without data": lambda x: x.device.type == "meta",
    "on another size": lambda x: x.shape[-1] != 10,
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("failure", FAILURES)
def test_a_forward_that_fails(failure: str, use: str) -> None:
    net = Net(Fails(FAILURES[failure])).train()
    snapshot = Snapshot.of(net)
    with contextlib.suppress(CampfireError):
        USES[use](net)
    assert_untouched(net, snapshot)


@pytest.mark.parametrize("phase", ["cutting", "proof"])
def test_a_failure_of_our_own(phase: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net(Meter()).train()
    snapshot = Snapshot.of(net)

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no further")

    holder, name = (pipeline, "recompile") if phase == "cutting" else (verify, "_largest_difference")
    monkeypatch.setattr(holder, name, fail)
    with pytest.raises(RuntimeError, match="no further"):
        campfire_fx.shrink(net, X)
    assert_untouched(net, snapshot)


class KeepsOldData(MaxNorm):
    def forward(self, x: Tensor) -> Tensor:
        old = self.weight.data
        self.weight.data = torch.renorm(old, p=2, dim=0, maxnorm=0.2)
        return nn.Conv2d.forward(self, x) + old.mean()


@pytest.mark.parametrize("part", [MaxNorm, Clips, ClipsBehindTheGraph, KeepsOldData])
def test_a_weight_that_is_written_to_in_forward_is_so_in_the_slim_model_too(part: type[nn.Conv2d]) -> None:
    net = Net(part(8, 8, 3, padding=1)).double().train()
    zero_filters(net.part, (0, 2))
    captured = campfire_fx.trace(net, X.double())
    opaque = "behind the graph" if part is ClipsBehindTheGraph else "goes on with the data from before"
    assert [reason for _, reason in captured.untraced if opaque in reason] or part in (MaxNorm, Clips)
    assert bool(captured.untraced) is (part not in (MaxNorm, Clips))
    slim: Any = campfire_fx.shrink(net, X.double())
    for _ in range(2):
        with torch.no_grad():
            torch.testing.assert_close(slim(X.double()), net(X.double()), rtol=1e-10, atol=1e-10)
            for module in (net, slim):
                module.part.weight.mul_(1.5)
