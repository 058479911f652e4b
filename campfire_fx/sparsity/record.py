"""The record of a sparse model: target and true sparsity, per layer and in all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from campfire_fx.base.records import Record


@dataclass(frozen=True, slots=True)
class Iterate(Record):
    """How far ADMM has come in one layer; plain numbers, saved in the `state_dict`.

    Attributes:
        aim: the sparsity that Z has.
        since: the epoch in which this aim was taken up.
        updates: how many updates of Z and U it has seen.
        epoch: the epoch of the last one.
        rho: of the penalty since then.
        primal: ||W - Z'||^2 at the last update: how far the weights are from being sparse.
        dual: ||Z' - Z||^2 at the last update; None before the first one.
    """

    aim: float
    since: int
    updates: int
    epoch: int
    rho: float
    primal: float
    dual: float | None = None


@dataclass(frozen=True, slots=True)
class LayerSparsity(Record):
    """One layer's numbers. Fractions are in [0, 1]; counts are of weights unless they say otherwise.

    Attributes:
        name: the layer's path.
        operation: "Conv2d", "Linear", ...
        shape: of its weight.
        final: the sparsity it ends with.
        target: the sparsity due in the present epoch.
        weights: how many it has.
        zeros: how many of them are masked.
        window: the masked fraction inside the kernels that still live (Campfire's window share).
        kernels: how many kernels it has, (out * in per group).
        dead_kernels: how many of them are masked whole; over `kernels` it is the CK share.
        filters: how many output channels it has.
        dead_filters: how many of them are masked whole.
        reason: why the regime leaves it alone; "" where it does not.
        iterate: what ADMM did in it as the epoch began; None where it did nothing.
        remark: what else the regime says of it.
    """

    name: str
    operation: str
    shape: tuple[int, ...]
    final: float
    target: float
    weights: int
    zeros: int
    window: float
    kernels: int
    dead_kernels: int
    filters: int
    dead_filters: int
    reason: str
    iterate: Iterate | None = None
    remark: str = ""

    def _told(self) -> Iterator[str]:
        yield from (self.name, self.operation, "x".join(map(str, self.shape)))
        yield self.reason or f"{100 * self.true:.1f} % masked"

    @property
    def true(self) -> float:
        """The masked fraction of the layer."""
        return self.zeros / self.weights


@dataclass(frozen=True, slots=True)
class CostRecord(Record):
    """What the slim network would cost now, as a part of the dense one; "macs", "parameters", "latency", "channels".

    Attributes:
        name: of the cost.
        now: by the channels that live.
        due: the most that it may be in the present epoch; None where it is not limited.
        final: the most that it may be in the end.
    """

    name: str
    now: float
    due: float | None = None
    final: float | None = None


@dataclass(frozen=True, slots=True)
class SparsityRecord(Record):
    """A sparse model's state: what was asked, what is there, and what stays dense.

    Attributes:
        regime: its name.
        epoch: the present epoch, counted from 0.
        era: first and last epoch in which masks move, over all layers.
        final: the sparsity asked for in the end.
        target: the sparsity due now over the layers that are pruned, weighted by their size.
        frozen: whether the masks have their final form.
        layers: every convolution and linear layer of the model that could hold a mask.
        unmasked: (path, reason) of weights that cannot hold one, so that nothing is left out in silence.
        parameters: how many parameters the whole model has.
        costs: where whole channels die together: what is left of the dense network's costs.
        penalty: what a penalty added to the loss as the epoch began; None where there is none, or it is over.
        steps: of an optimizer, that were seen.
        counted: whether steps make epochs by themselves; like `steps` it is of this process, not of the masks.
    """

    regime: str
    epoch: int
    era: tuple[int, int]
    final: float
    target: float
    frozen: bool
    layers: tuple[LayerSparsity, ...]
    unmasked: tuple[tuple[str, str], ...]
    parameters: int
    costs: tuple[CostRecord, ...] = ()
    penalty: float | None = None
    steps: int = field(default=0, compare=False)
    counted: bool = field(default=False, compare=False)

    @property
    def begun(self) -> bool:
        """Whether anything has moved the schedule: steps, epochs, or `finalize`."""
        return self.frozen or self.epoch > 0 or self.steps > 0

    @property
    def standing(self) -> str:
        """How far the schedule is from its end, why, and what to do; "" where it is there."""
        now, (start, end) = f"epoch {self.epoch}", self.era
        if self.frozen:
            told = f"finalize() made the masks final in {now}, before the era ({start} to {end}) was over."
            if self.epoch == 0 and not self.steps:
                told = "finalize() pruned at once: attach, step and epoch were never called before it."
            return told if self.epoch < end else ""
        why = f"the schedule has come to {now}, and the era ends with epoch {end}"
        if self.epoch >= end:
            return "Masks are not final: weights under them train until finalize() is called."
        if not self.begun:
            why = "the schedule never began: neither attach(optimizer, steps_per_epoch=...) nor epoch(e) was called"
        elif self.epoch == 0 and not self.counted:
            why = (
                f"the schedule is in {now} after {self.steps} optimizer steps: attach was given no steps_per_epoch, and"
                " epoch(e) was not called as epochs began"
            )
        return f"Masks are not final: {why}. Train to the end of the era, or call finalize() to prune at once."

    def _told(self) -> Iterator[str]:
        yield f"regime {self.regime}"
        yield "masks frozen" if self.frozen else f"epoch {self.epoch} of era {self.era[0]} to {self.era[1]}"
        yield f"{100 * self.true:.1f} % of the weights of {len(self.pruned)} layers masked"

    @property
    def pruned(self) -> tuple[LayerSparsity, ...]:
        """The layers that are asked to be sparse, or are."""
        return tuple(layer for layer in self.layers if not layer.reason or layer.zeros)

    @property
    def zeros(self) -> int:
        """How many weights are masked."""
        return sum(layer.zeros for layer in self.layers)

    @property
    def true(self) -> float:
        """The masked fraction of the weights of the pruned layers: to be compared with `target`."""
        return self.zeros / max(1, sum(layer.weights for layer in self.pruned))

    @property
    def residuals(self) -> tuple[float | None, float | None]:
        """(primal, dual): ||W - Z||^2 and ||Z' - Z||^2 over the layers that ADMM updated as the epoch began, or None.

        Both fall to 0 as ADMM converges (StructADMM's two conditions to stop).
        """
        iterates = [layer.iterate for layer in self.layers if layer.iterate is not None]
        dual = [iterate.dual for iterate in iterates if iterate.dual is not None]
        return sum(i.primal for i in iterates) if iterates else None, sum(dual) if dual else None

    @property
    def overall(self) -> float:
        """The masked fraction of all parameters of the model."""
        return self.zeros / max(1, self.parameters)

    @property
    def shares(self) -> tuple[float, float]:
        """(kernels, window): over all pruned layers with windows, the dead kernels and the zeros inside the others.

        Combined pruning's two numbers: the sparsity of those layers is 1 - (1 - kernels) * (1 - window).
        """
        layers = [layer for layer in self.pruned if layer.kernels < layer.weights]
        weights = sum(layer.weights for layer in layers)
        dead = sum(layer.dead_kernels * layer.weights // layer.kernels for layer in layers)
        inside = sum(layer.zeros for layer in layers) - dead
        return dead / max(1, weights), inside / max(1, weights - dead)
