"""Copies, compilation, DistributedDataParallel, and names that clash."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.optim import SGD

from campfire_fx.base.errors import CampfireError, RegimeError
from campfire_fx.training.model import SparseModel
from campfire_fx.training.sparsify import sparsify
from tests.sparse_training import (
    IMAGE,
    Net,
    assert_same_state,
    assert_zero_under_masks,
    batches,
    layer,
    sparse,
    train,
)


class TestCopies:
    @pytest.mark.parametrize("through", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
    def test_are_apart_unattached_and_go_on(self, through: Any) -> None:
        model = sparse()
        optimizer = SGD(model.parameters(), 0.05, momentum=0.9)
        model.attach(optimizer, steps_per_epoch=3)
        for _ in train(model, optimizer, batches(8)):
            pass
        twin = through(model)
        assert isinstance(twin, SparseModel) and isinstance(twin, fx.GraphModule)
        assert_same_state(twin.state_dict(), model.state_dict())
        x = torch.randn(2, 3, 8, 8)
        assert torch.equal(twin.eval()(x), model.eval()(x))
        for _ in train(model, optimizer, batches(3)):
            pass
        assert (model.sparsity().epoch, twin.sparsity().epoch) == (3, 2), "the copy rides on no optimizer"
        fresh = SGD(twin.parameters(), 0.05, momentum=0.9)
        twin.attach(fresh, steps_per_epoch=3)
        for _ in train(twin, fresh, batches(8)):
            assert_zero_under_masks(twin, fresh)
        assert twin.sparsity().frozen

    def test_moving_to_another_precision_keeps_it_sparse(self) -> None:
        model = sparse().double()
        optimizer = SGD(model.parameters(), 0.05, momentum=0.9)
        model.attach(optimizer, steps_per_epoch=1)
        for _ in train(model, optimizer, [(x.double(), y) for x, y in batches(6)]):
            assert_zero_under_masks(model, optimizer)
        assert model.sparsity().true > 0.6

    def test_the_optimizer_does_not_keep_the_model_alive(self) -> None:
        import gc
        import weakref

        model = sparse()
        optimizer = SGD(model.parameters(), 0.05)
        model.attach(optimizer)
        gone = weakref.ref(layer(model, "conv1"))
        del model
        gc.collect()
        assert gone() is None
        optimizer.step()


class TestCompile:
    def test_no_graph_breaks_and_no_recompiles_when_masks_move(self) -> None:
        model = sparse()
        graphs: list[fx.GraphModule] = []

        def backend(graph: fx.GraphModule, _inputs: list[Tensor]) -> Callable[..., Any]:
            graphs.append(graph)
            return graph.forward

        compiled = torch.compile(model, fullgraph=True, backend=backend)
        optimizer = SGD(compiled.parameters(), 0.05, momentum=0.9)
        model.attach(optimizer, steps_per_epoch=2)
        for _ in train(compiled, optimizer, batches(10)):
            assert_zero_under_masks(model, optimizer)
        assert model.sparsity().frozen and len(graphs) == 1


def test_distributed_data_parallel_wraps_it(tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        model, alone = sparse(), sparse()
        wrapped = nn.parallel.DistributedDataParallel(model)
        first, second = (SGD(m.parameters(), 0.05, momentum=0.9) for m in (wrapped, alone))
        model.attach(first, steps_per_epoch=2)
        alone.attach(second, steps_per_epoch=2)
        for _ in train(wrapped, first, batches(8)):
            assert_zero_under_masks(model, first)
        for _ in train(alone, second, batches(8)):
            pass
        assert_same_state({k.removeprefix("module."): v for k, v in wrapped.state_dict().items()}, alone.state_dict())
        fresh = nn.parallel.DistributedDataParallel(sparse())
        fresh.load_state_dict(wrapped.state_dict())
        assert_same_state(fresh.state_dict(), wrapped.state_dict())
        with pytest.raises(RegimeError, match="saved under regime 'combined', this model has 'ck'"):
            nn.parallel.DistributedDataParallel(sparse("ck")).load_state_dict(wrapped.state_dict())
    finally:
        torch.distributed.destroy_process_group()


def test_a_name_that_a_method_would_hide_is_refused() -> None:
    class Clash(Net):
        def __init__(self) -> None:
            super().__init__()
            self.report = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            return self.report(super().forward(x))

    with pytest.raises(CampfireError, match="at report: SparseModel has a method of that name, which would hide it"):
        sparsify(Clash(), example_inputs=IMAGE)
