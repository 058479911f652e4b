"""Two processes train as one: DistributedDataParallel and FSDP2 over gloo, each with half of every batch."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
import torch

from tests.distributed_training import Make, adamw, alone, fresh, run_rank, sgd, start
from tests.sparse_training import assert_same_state, masks, sparse

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without distributed")
RUNS: dict[str, tuple[Make, str]] = {
    "ddp": (sgd, "combined"),
    "fsdp-sgd": (sgd, "combined"),
    "fsdp-adamw": (adamw, "combined"),
    "resumed": (sgd, "combined"),
    "by-hand": (sgd, "combined"),
    "filter": (sgd, "filter"),
    "channel": (sgd, "channel to a target"),
    "channel-taylor": (sgd, "channel by gradients"),
    "admm": (sgd, "admm-filter"),
    "ddp-admm": (sgd, "admm-filter"),
    "exchange": (sgd, "rigl"),
    "penalty": (sgd, "ssl"),
    "proximal": (sgd, "sparse-structure"),
    "growing": (sgd, "greg"),
}
SHARDED = [name for name in RUNS if not name.startswith("ddp")]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What every rank found, all runs in one start of the processes."""
    return start(run_rank, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("run", RUNS)
def test_masks_are_identical_on_every_rank(found: list[dict[str, Any]], run: str) -> None:
    first, second = (rank[run]["masks"] for rank in found)
    assert_same_state(first, second)
    assert any(not bool(mask.all()) for mask in first.values())


@pytest.mark.parametrize("run", RUNS)
def test_the_result_is_that_of_one_process_with_the_same_batches(found: list[dict[str, Any]], run: str) -> None:
    model, _ = alone(*RUNS[run])
    state = found[0][run]["state"]
    assert_same_state(found[0][run]["masks"], masks(model))
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(state[name], value, rtol=1e-3, atol=1e-5)
        elif name == "_extra_state":
            assert_same_course(state[name], value)
        else:
            assert torch.equal(state[name], value), name
    before = fresh().state_dict()
    moved = [float((state[n] - before[n]).abs().max()) for n in state if n.endswith("weight") and "bn" not in n]
    assert min(moved) > 1e-2, "a run that does not move proves nothing"


def test_masks_drawn_at_random_are_the_first_ones_whatever_the_seeds(found: list[dict[str, Any]]) -> None:
    first, second = (rank["chance"] for rank in found)
    assert_same_state(first["masks"], second["masks"])
    assert first["next"] != second["next"], "each process goes on with its own generator"
    model = fresh("rigl")
    torch.manual_seed(100)
    model.attach(sgd(model), steps_per_epoch=1)
    assert_same_state(first["masks"], masks(model))


def assert_same_course(first: torch.Tensor, second: torch.Tensor) -> None:
    """Equal, but for what is made of weights and gradients that are equal to rounding, and so for the checksum."""
    found, expected = (json.loads(bytes(course.tolist())) for course in (first, second))
    assert {type(course.pop("crc32")) for course in (found, expected)} == {int}
    for name, scores in expected.pop("memory", {}).items():
        told = (np.frombuffer(base64.b64decode(text)) for text in (found["memory"][name], scores))
        np.testing.assert_allclose(*told, rtol=1e-3)
    found.pop("memory", None)
    for name, layer in expected["layers"].items():
        for residual in {"primal", "dual"} & layer["numbers"].keys():
            value = found["layers"][name]["numbers"].pop(residual)
            assert value == pytest.approx(layer["numbers"].pop(residual), rel=1e-3)
    assert found == expected


@pytest.mark.parametrize("run", SHARDED)
def test_weights_and_state_are_zero_under_the_masks_of_a_sharded_model(found: list[dict[str, Any]], run: str) -> None:
    for rank in found:
        assert rank[run]["dead"] and not any(any(counts) for counts in rank[run]["dead"].values())
        assert min(len(counts) for counts in rank[run]["dead"].values()) >= 2


def test_each_rank_holds_its_part(found: list[dict[str, Any]]) -> None:
    whole = sum(p.numel() for p in fresh().parameters())
    parts = [rank["fsdp-sgd"]["here"] for rank in found]
    assert sum(parts) == whole and max(parts) < 0.6 * whole


def test_a_sharded_model_tells_its_sparsity_as_any(found: list[dict[str, Any]]) -> None:
    model, _ = alone(sgd)
    expected = [(row.name, row.operation, row.zeros) for row in model.sparsity().layers]
    assert all(rank["fsdp-sgd"]["rows"] == expected for rank in found)


def test_its_full_state_dict_shrinks_in_one_process(found: list[dict[str, Any]]) -> None:
    state = found[0]["filter"]["state"]
    assert "spread over processes. Load its full state_dict into a model" in found[0]["filter"]["refused"]
    model = sparse("filter")
    model.load_state_dict(state)
    slim = model.eval().shrink()
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(slim(x), model(x), rtol=1e-5, atol=1e-6)
    assert slim.get_submodule("conv1").weight.shape[0] < 8


def test_masks_are_not_sent_before_every_forward(found: list[dict[str, Any]]) -> None:
    shapes: list[tuple[int, ...]] = found[0]["ddp"]["sent"]
    sizes = {tuple(mask.shape) for mask in found[0]["ddp"]["masks"].values()}
    assert shapes and not sizes & set(shapes)
