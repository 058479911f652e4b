"""Methods: what becomes of weights and masks in the course of a training. One life cycle for all of them.

`begin`, then for every step `before_step` and `after_step`, for every epoch `epoch`, and `finish`. When each is called
stands in one place, `training/life_cycle.py`. A method is a frozen record of numbers, shared by all models that use
it; what it has to remember of a layer it keeps with that layer (`PrunedLayer.state.numbers`, `module.carry`), and the
library saves it under the method's name and version.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from campfire_fx.sparsity.clock import Clock
from campfire_fx.sparsity.layer import PrunedLayer
from campfire_fx.sparsity.record import Iterate

GRADIENTS = "gradients"
"""Gradients, of training steps or of batches."""
CURVATURE = "curvature"
"""H g in the place of gradients: the Hessian of the loss by its gradient, of batches."""
INPUTS = "inputs"
"""What layers are given, of batches."""


class Method:
    """The base of all methods: it does nothing. Made a frozen dataclass by each, whose fields are saved and compared.

    Each function gets the layers that the method has, of one model; of `before_step` those that the optimizer holds
    (or all of them, where `sees_all`).
    """

    name: ClassVar[str]
    """What a `state_dict` calls it."""
    version: ClassVar[int] = 1
    """Raised when what it remembers changes its meaning."""
    trains_masked: ClassVar[bool] = False
    """Whether weights under the mask train on until `finish`."""
    weights_return: ClassVar[bool] = False
    """Whether what is masked may be kept again later."""

    ranks_over_layers: ClassVar[bool] = False
    """Whether it lets rules choose over several layers together (the scope `OverLayers`)."""

    couples: ClassVar[bool] = False
    """Whether it removes coupled channels: its layers come with a `Coupling`, and it decides for all of them."""

    gathers: ClassVar[str] = ""
    """What of data its choice is made of: `GRADIENTS`, `CURVATURE` or `INPUTS`; "": none."""
    gathers_in_training_mode: ClassVar[bool] = False
    """Whether `SparseModel.gather` runs the model in training mode, where norms take the statistics of the batch."""

    sees_all: ClassVar[bool] = False
    """Whether `before_step` gets all of its layers, and not only those that the optimizer holds."""

    @property
    def rewinds_to(self) -> int | None:
        """The epoch to whose weights training goes back each time that masks have moved; None: it goes on."""
        return None

    @property
    def goes_on_smaller(self) -> bool:
        """Whether it can go on in a model from which what is dead was removed."""
        return False

    @property
    def packs_inputs(self) -> bool:
        """Whether layers keep but a part of their inputs for the backward pass."""
        return False

    def begin(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Bring layers into the form that they have now: at first, and when a clock or a mask was given."""

    def loaded(self, layers: Sequence[PrunedLayer], now: Clock, *, dense: bool) -> None:
        """Take up weights that were loaded: those of a dense model, or of this training."""

    def before_step(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Act before the optimizer steps. Gradients are accumulated, averaged over processes, unscaled and clipped."""

    def gather(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """See the gradients of a batch, of which no step is made; where it has none of its own, `before_step`."""
        self.before_step(layers, now)

    def watch(self, layer: PrunedLayer, inputs: Tensor) -> None:
        """See what a layer is given in a batch, (N, C, ...), for those that gather `INPUTS`."""

    def after_step(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Act after the optimizer has stepped; the step is counted."""

    def epoch(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Move the masks, as an epoch begins or after its first update; also asked twice."""

    def finish(self, layers: Sequence[PrunedLayer], now: Clock) -> None:
        """Bring masks to their final form; the clock is frozen."""
        self.epoch(layers, now)

    def iterate(self, layer: PrunedLayer) -> Iterate | None:
        """Return what it did in a layer as the present epoch began, for the record."""
        del layer
        return None

    def behaviour(self) -> Tensor | None:
        """Return what its functions make of fixed masks, bool: a `state_dict` compares it, and not their names."""
        return None
