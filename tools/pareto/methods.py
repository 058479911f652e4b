"""How each method trains: the network that it begins with, and what happens to it between epochs."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from campfire_fx import SparseModel, sparsify
from campfire_fx.app.train.batches import TrainBatches
from campfire_fx.app.train.recipe import Recipe
from pareto.budgets import planned_shares
from pareto.plan import CHANNELS, DENSE, THEIRS, UNIFORM, Run
from pareto.setting import Setting
from pareto.torch_pruner import TorchPruned
from pareto.training import Trainee


class Sparse(Trainee):
    """A network under masks, which becomes the smaller one after the last epoch, or at every epoch of the era.

    Args:
        network: from `sparsify`.
        recipe: of its training.
        batches: of its training images.
        cut: go on in a smaller network from every epoch of the era on.
    """

    network: SparseModel

    def __init__(self, network: SparseModel, recipe: Recipe, batches: TrainBatches, *, cut: bool) -> None:
        super().__init__(network, recipe, batches)
        self.cut = cut
        network.attach(self.optimizer, steps_per_epoch=len(batches))

    def epoch(self, epoch: int) -> None:
        """Let the masks move, and cut off what they leave without use."""
        start, end = self.recipe.era
        if self.cut and start < epoch <= end:
            self.network.epoch(epoch)
            smaller = self.network.reconfigure(self.optimizer, verify=False)
            self.network = smaller.to(memory_format=torch.channels_last)

    def finish(self) -> dict[str, float]:
        """Shrink, and tell how many weights are zero and how far the outputs differ."""
        sparse = self.network
        if sparse.trains_masked:
            sparse.finalize()
        else:
            sparse.step()  # masks that wait for an update that will not come
        slim = sparse.eval().shrink()
        assert slim.verification is not None  # shrink proves unless told not to
        self.network = slim  # type: ignore[assignment]  # after training it is one network of many
        return {"zeros": sparse.sparsity().true, "difference": slim.verification.difference}


def trainee_of(run: Run, network: nn.Module, recipe: Recipe, batches: TrainBatches, setting: Setting) -> Trainee:
    """Return what trains in a run.

    Args:
        run: which.
        network: with the weights that it begins with, of the widths that it begins with.
        recipe: of this run.
        batches: of training images.
        setting: of all runs.
    """
    if run.kind in {DENSE, UNIFORM} or run.scratch:
        return Trainee(network, recipe, batches)
    if run.kind == THEIRS:
        shares = planned_shares(run, recipe, 1.0)
        return TorchPruned(network, recipe, batches, setting=setting, importance=run.parts[0], shares=shares)
    return Sparse(sparsified(run, network, recipe, setting), recipe, batches, cut=run.cut)


def sparsified(run: Run, network: nn.Module, recipe: Recipe, setting: Setting) -> SparseModel:
    """Return a sparse copy of a dense network, as a run asks for it."""
    wishes: dict[str, Any] = {} if run.sparsity is None else {"sparsity": run.sparsity}
    if run.kind in CHANNELS:
        words = [part.replace("-", " ") for part in run.parts]
        wishes |= {"target": {"macs": run.target}, **dict(zip(("score", "scope"), words, strict=False))}
    return sparsify(network, run.kind, era=recipe.era, example_inputs=setting.example, **wishes)
