"""What every regime of the table must do, whatever its method: one battery, written once."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from campfire_fx.base.errors import RegimeError
from campfire_fx.sparsity import regime_named
from tests.sparse_training import OPTIMIZERS, assert_resumes, assert_same_state, masks, sparse, wished
from tests.training.every_regime import ALIKE, DATA, STEPS, every_mechanism, every_regime, trained


@every_regime
def test_two_runs_are_equal_to_the_bit(regime: str) -> None:
    one, other = trained(regime)[0], trained(regime)[0]
    assert_same_state(one.state_dict(), other.state_dict())


@every_mechanism
@pytest.mark.parametrize("stop", [5, 9])  # inside an epoch, and between two
def test_a_resumed_run_is_the_run_never_stopped(regime: str, stop: int) -> None:
    assert_resumes(
        lambda seed: sparse(regime, seed=seed), OPTIMIZERS["nesterov"], DATA, stop=stop, steps_per_epoch=STEPS
    )


@every_regime
def test_what_is_masked_is_zero_in_the_end(regime: str) -> None:
    model = trained(regime)[0].finalize()
    assert model.sparsity().true > 0.1
    for name, mask in masks(model).items():
        assert not model.get_parameter(name.replace("mask", "weight"))[~mask].any(), name


@every_regime
def test_shrinking_is_exact(regime: str) -> None:
    model = trained(regime)[0].finalize().double().eval()
    slim = model.shrink()
    x = torch.randn(3, 3, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        found, expected = slim(x), model(x)
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-10


@every_regime
def test_bf16_autocast_leaves_weights_in_float32(regime: str) -> None:
    model = sparse(regime)
    optimizer = OPTIMIZERS["nesterov"](model.parameters())
    model.attach(optimizer, steps_per_epoch=STEPS)
    model.train()
    for x, y in DATA:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            output = model(x)
        F.cross_entropy(output.float(), y).backward()
        optimizer.step()
    assert output.dtype == torch.bfloat16
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert all(bool(p.isfinite().all()) for p in model.parameters())
    assert model.finalize().sparsity().true > 0.1


@every_regime
def test_its_state_is_refused_by_another(regime: str) -> None:
    state = trained(regime)[0].state_dict()
    other = sparse("ck" if regime != "ck" else "filter")
    with pytest.raises(RegimeError, match="it was saved under regime"):
        other.load_state_dict(state)


@pytest.mark.parametrize("regime", ALIKE)
def test_what_is_tried_with_another_has_its_method(regime: str) -> None:
    one, other = (regime_named(wish.pop("regime"), **wish) for wish in map(wished, (regime, ALIKE[regime])))
    assert issubclass(type(other.method), type(one.method))
    assert type(one.schedule(1, 4, 3.0)) is type(other.schedule(1, 4, 3.0))
    assert type(one.penalty) is type(other.penalty)
