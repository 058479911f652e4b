"""Every regime on two processes: the same masks and weights on both, and those of one process with whole batches."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.distributed_training import start
from tests.sparse_training import assert_same_state
from tests.training.every_regime import MECHANISMS, every_mechanism
from tests.training.every_regime_ranks import SMALLER, made_smaller, run_rank, trained

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without distributed")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What both ranks found, all regimes in one start of the processes."""
    return start(run_rank, tmp_path_factory.mktemp("ranks"))


@every_mechanism
@pytest.mark.parametrize("when", ["masks", "final"])  # after the last step, and after `finalize`
def test_masks_are_identical_on_both_ranks(found: list[dict[str, Any]], regime: str, when: str) -> None:
    first, second = (rank[regime][when] for rank in found)
    assert_same_state(first, second)
    assert any(not bool(mask.all()) for mask in first.values())


@every_mechanism
def test_weights_and_state_are_equal_on_both_ranks_to_the_bit(found: list[dict[str, Any]], regime: str) -> None:
    """SWAT's thresholds of inputs, too: after the step that computes them, the first rank's are broadcast."""
    first, second = (rank[regime] for rank in found)
    assert_same_state(first["state"], second["state"])
    assert first["moved"] > 1e-3, "a run that does not move proves nothing"


@pytest.mark.parametrize("regime", SMALLER)
def test_what_is_made_smaller_in_the_era_goes_on_alike(found: list[dict[str, Any]], regime: str) -> None:
    first, second = (rank[f"{regime}, made smaller"] for rank in found)
    alone = made_smaller(regime)
    assert_same_state(first["state"], second["state"])
    assert first["left"] == alone["left"] and min(first["left"]) < 0.8
    for name, value in alone["state"].items():
        if value.is_floating_point():
            torch.testing.assert_close(first["state"][name], value, rtol=1e-9, atol=1e-11)


# SWAT's ranks choose the largest part of their own share of a batch (docs/regimes.md, "Several processes"), which is
# not the largest part of the whole: there is no run of one process to compare with.
@pytest.mark.parametrize("regime", [name for name in MECHANISMS if not name.startswith("swat")])
def test_they_are_those_of_one_process_with_whole_batches(found: list[dict[str, Any]], regime: str) -> None:
    alone, together = trained(regime), found[0][regime]
    assert_same_state(together["masks"], alone["masks"])
    assert_same_state(together["final"], alone["final"])
    for name, value in alone["state"].items():
        if value.is_floating_point():
            torch.testing.assert_close(together["state"][name], value, rtol=1e-10, atol=1e-12)
