"""The order of what happens in a step and as an epoch begins: for every method, and around the optimizer's own step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.optim import SGD

from campfire_fx.base.errors import RegimeError
from campfire_fx.sparsity import Gradual, Method, PrunedLayer, Regime, regime_named
from campfire_fx.sparsity.clock import Clock
from tests.sparse_training import IMAGE, batches, layer, masks, sparse, train

CUT = regime_named("unstructured").spatial


class Noting(Gradual):
    """Notes what is called, when, and with which layers; "dirty" where a weight under its mask is not zero."""

    def __init__(self, calls: list[str]) -> None:
        super().__init__()
        object.__setattr__(self, "calls", calls)

    def _note(self, hook: str, layers: Sequence[PrunedLayer], now: Clock) -> None:
        dead = sum(int((one.weight[~one.mask] != 0).sum()) for one in layers)
        names = ",".join(one.state.assignment.name for one in layers)
        self.calls.append(f"{hook} {names} at {now.epoch}.{now.step}/{now.updates}{' dirty' if dead else ''}")

    def begin(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        self._note("begin", layers, now)

    def loaded(self, layers: Sequence[PrunedLayer], now: Clock, *, dense: bool) -> None:
        self._note("dense" if dense else "loaded", layers, now)

    def before_step(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        self._note("before", layers, now)

    def after_step(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        self._note("after", layers, now)

    def epoch(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        super().epoch(layers, now)
        self._note("epoch", layers, now)

    def finish(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        super().epoch(layers, now)
        self._note("finish", layers, now)


def stepping(parameters: Any, calls: list[str]) -> SGD:
    """Return an optimizer that notes its own steps, which move all weights, those under masks too."""
    optimizer = SGD(parameters, 0.05, momentum=0.9)

    @torch.no_grad()
    def step(optimizer: Any, *_: Any) -> None:
        calls.append("step")
        for parameter in optimizer.param_groups[0]["params"]:
            parameter += 0.01

    optimizer.register_step_post_hook(step)
    return optimizer


def noting(**wishes: Any) -> tuple[Any, list[str]]:
    calls: list[str] = []
    model = sparse(Regime("noting", CUT, None, None, update=Noting(calls)), **({"era": (0, 2)} | wishes))
    return model, calls


def steps(model: Any, calls: list[str], count: int, **how: Any) -> list[str]:
    optimizer = stepping(model.parameters(), calls)
    model.attach(optimizer, **how)
    for _ in train(model, optimizer, batches(count)):
        pass
    return calls


BOTH = "conv1,conv2"


def test_a_step_and_an_epoch() -> None:
    model, calls = noting()
    assert steps(model, calls, 4, steps_per_epoch=2) == [
        f"begin {BOTH} at 0.0/0",
        f"epoch {BOTH} at 0.0/0",
        f"before {BOTH} at 0.0/0",
        "step",
        f"after {BOTH} at 0.0/1",
        f"before {BOTH} at 0.1/1",
        "step",
        f"after {BOTH} at 0.1/2",
        f"epoch {BOTH} at 1.0/2",
        f"before {BOTH} at 1.0/2",
        "step",
        f"after {BOTH} at 1.0/3 dirty",  # what the step has moved under the masks is zeroed after it
        f"before {BOTH} at 1.1/3",
        "step",
        f"after {BOTH} at 1.1/4 dirty",
        f"epoch {BOTH} at 2.0/4",
    ]


def test_masks_that_wait_move_after_the_first_step_and_after_the_zeroing() -> None:
    model, calls = noting(masks_move="after")
    steps(model, calls, 3, steps_per_epoch=2)
    begun = [call for call in calls if call.startswith(("epoch", "after", "step"))]
    assert begun == [
        f"epoch {BOTH} at 0.0/0",  # attached: nothing waits yet
        "step",
        f"after {BOTH} at 0.0/1",
        "step",
        f"after {BOTH} at 0.1/2",
        "step",
        f"after {BOTH} at 1.0/3",
        f"epoch {BOTH} at 1.0/3",
    ]


def test_by_hand_it_is_the_same_order() -> None:
    model, calls = noting()
    optimizer = stepping(model.parameters(), calls)
    model.epoch(1)
    model.train()(IMAGE).sum().backward()
    model.before_step()
    optimizer.step()
    model.step()
    assert calls[1:] == [f"epoch {BOTH} at 1.0/0", f"before {BOTH} at 1.0/0", "step", f"after {BOTH} at 1.0/1 dirty"]
    assert all(not layer(model, name).weight[~layer(model, name).mask].any() for name in BOTH.split(","))


def test_of_several_optimizers_each_acts_on_its_own_layers_and_one_is_counted() -> None:
    model, calls = noting()
    first = stepping(model.get_submodule("conv1").parameters(), calls)
    second = stepping(model.get_submodule("conv2").parameters(), calls)
    model.attach(first)
    model.attach(second, steps_per_epoch=5)
    calls.clear()
    model.train()(IMAGE).sum().backward()
    first.step()
    second.step()
    assert calls == ["before conv1 at 0.0/0", "step", "before conv2 at 0.0/0", "step", f"after {BOTH} at 0.0/1"]


def test_loading_finishing_and_masks_by_hand() -> None:
    model, calls = noting()
    other, _ = noting()
    calls.clear()
    model.load_state_dict(other.state_dict())
    assert list(dict.fromkeys(call.split()[0] for call in calls)) == ["begin", "loaded"]
    calls.clear()
    dense = {key: value for key, value in model.state_dict().items() if not key.endswith(("mask", "_extra_state"))}
    model.load_state_dict(dense)
    model.set_mask("conv1", torch.ones_like(layer(model, "conv1").mask))
    model.finalize()
    assert [call.split()[0] for call in calls] == ["dense", "begin", "finish"]
    assert layer(model, "conv1").mask.all() and not layer(model, "conv2").mask.all()


def test_methods_stand_beside_each_other_each_with_its_own_layers() -> None:
    calls: list[str] = []
    mine = Regime("noting", CUT, None, None, update=Noting(calls))
    model = sparse(mine, era=(0, 2), overrides={"conv2": {"regime": "rigl"}, "fc": {"regime": "swat-u"}})
    steps(model, calls, 3, steps_per_epoch=2)
    assert {call.split()[1] for call in calls if call != "step"} == {"conv1"}
    assert model.trains_masked and not layer(model, "conv2").mask.all()


def test_a_method_without_hooks_does_nothing() -> None:
    class Never(Method):
        name = "never"

    model = sparse(replace(regime_named("unstructured"), update=Never()), era=(0, 1))
    before = masks(model)
    model.epoch(3)
    model.finalize()
    assert all(torch.equal(mask, before[name]) for name, mask in masks(model).items())


def test_a_weight_that_is_not_finite_stops_a_move_before_any_mask() -> None:
    model = sparse("unstructured", era=(0, 2))
    before = masks(model)
    with torch.no_grad():
        layer(model, "fc").weight[0, 0] = float("inf")
    for move in (lambda: model.epoch(1), model.finalize):
        with pytest.raises(RegimeError, match="masks at fc: its weight is not finite"):
            move()
        assert all(torch.equal(mask, before[name]) for name, mask in masks(model).items())
    assert not model.sparsity().frozen
