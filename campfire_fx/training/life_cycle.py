"""The life cycle of a sparse training: what happens in a step and as an epoch begins, in one place.

In a step, with the gradients of a whole batch at hand:

1. every method's `before_step`; the optimizer's own step;
2. the step is counted; every method's `after_step`;
3. what is masked is zeroed: weights, dead norms, and the optimizer state of both;
4. the masks move that have waited for this step (masks_move="after");
5. with the last step of an epoch the next one begins.

As an epoch begins its masks move, or wait for its first step. To move masks:

1. no weight that is to be ranked may be other than finite;
2. every method's `epoch`, or `finish` where the masks are to be final;
3. if any has moved, what is masked is zeroed.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from campfire_fx.base.compat import writes_to
from campfire_fx.base.errors import RegimeError
from campfire_fx.base.sharding import reshard
from campfire_fx.layers.dense_weights import arrange_relus
from campfire_fx.layers.masked import layers_by_weight
from campfire_fx.passes.insert_masks import Norm
from campfire_fx.sparsity.layer import PrunedLayer
from campfire_fx.sparsity.method import Method
from campfire_fx.sparsity.record import SparsityRecord
from campfire_fx.sparsity.regimes import nothing_pruned
from campfire_fx.sparsity.state import SparsityState
from campfire_fx.training.attachment import Attachment, Handle, after_step, before_step, check_attachment
from campfire_fx.training.dead_channels import DeadChannels
from campfire_fx.training.masks import copy_masks, find_layer, measure, remask, set_mask

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class LifeCycle:
    """What a SparseModel knows beyond the model itself. Copies and pickles leave the attachments behind.

    Attributes:
        state: what each layer is asked for, and the clock.
        norms: BatchNorms to be zeroed where their filters are dead; empty for dead_norm="keep".
        unmasked: (path, reason) of weights that can hold no mask.
        examples: (args, kwargs) that the model was captured with.
        attachments: the optimizers that the masks ride on.
        dead_channels: what is zero with coupled channels that died.
        rewound: whether a `Rewinding` looks after the model.
        guessed: whether nothing said what the model is called with, and the example was guessed.
    """

    state: SparsityState
    norms: tuple[Norm, ...]
    unmasked: tuple[tuple[str, str], ...]
    examples: tuple[tuple[tuple[Any, ...], dict[str, Any]], ...]
    attachments: list[Attachment] = field(default_factory=list)
    dead_channels: DeadChannels = field(default_factory=DeadChannels)
    rewound: bool = False
    guessed: bool = False

    def __getstate__(self) -> tuple[Any, ...]:
        return self.state, self.norms, self.unmasked, self.examples, self.guessed

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state, self.norms, self.unmasked, self.examples, *guessed = state  # older pickles have four
        self.guessed = any(guessed)
        self.attachments, self.dead_channels, self.rewound = [], DeadChannels(), False

    def begin(self, model: nn.Module) -> None:
        """Bring layers into the form that the clock asks for: at first, and when clock or masks were given."""
        self._call("begin", model)

    def loaded(self, model: nn.Module, *, dense: bool) -> None:
        """Take up weights that were loaded: of a dense model, or with this state."""
        self._call("loaded", model, dense=dense)
        self.remask(model)

    def before_step(self, model: nn.Module, parameters: Iterable[Tensor], scale: Tensor | None = None) -> None:
        """Do what is due before an optimizer step.

        Args:
            model: whose life cycle this is.
            parameters: those that are stepped; other layers are left alone.
            scale: what the gradients are multiplied by, where a fused optimizer divides by it (fp16).
        """
        self._call("before_step", model, PendingStep(scale, frozenset(map(id, parameters))))

    def after_step(self, model: nn.Module, *, leads: bool, counts: bool = False, by_hand: bool = False) -> None:
        """Do what is due after an optimizer step.

        Args:
            model: whose life cycle this is.
            leads: whether the optimizer is the one, of several, whose steps are counted as updates.
            counts: whether its steps make epochs.
            by_hand: whether the user says so, and not an optimizer.
        """
        if leads:
            self.state.clock.updates += 1
            self._call("after_step", model)
        self.remask(model)
        if (leads or by_hand) and self.state.clock.waiting:
            self.move_masks(model)
        if counts and self.state.clock.tick():
            self.epoch(model)

    def epoch(self, model: nn.Module) -> None:
        """Begin an epoch: its masks move now, or after its first update."""
        self.state.clock.waiting = self.state.clock.late
        if not self.state.clock.late:
            self.move_masks(model)

    def finish(self, model: nn.Module) -> None:
        """Bring every mask to its final form.

        Raises:
            RegimeError: a weight is not finite, or a method chooses by data and has seen none; nothing is changed.
        """
        clock = self.state.clock
        was, clock.frozen = clock.frozen, True
        try:
            self._require_finite(model)
            self._move(model, "finish")
        except RegimeError:
            clock.frozen = was
            raise
        if all(bool(layer.mask.all()) for layer in self._layers(model, self.state.ruled)):
            logger.warning(nothing_pruned(self.state.regime))

    def move_masks(self, model: nn.Module) -> None:
        """Move the masks to the sparsity that is due.

        Raises:
            RegimeError: a weight is not finite; no mask has moved.
        """
        self._require_finite(model)
        self._move(model, "epoch")

    def set_mask(self, model: nn.Module, name: str, mask: Tensor) -> None:
        """Put a mask of the user's on a layer: see `SparseModel.set_mask`."""
        layers = self.state.layers
        layer = find_layer(model, name, layers)
        if mask.shape != layer.weight.shape:
            raise RegimeError(
                f"mask at {name}: its shape is {tuple(mask.shape)}, the weight's is {tuple(layer.weight.shape)}. "
                "Give one value for each weight."
            )
        for path, state in layers.items():
            state.by_hand |= find_layer(model, path, layers).weight is layer.weight
        self.begin(model)
        set_mask(model, layer, mask.to(layer.mask.device) != 0)
        self.remask(model)

    def follow(self, model: nn.Module, other: nn.Module, state: SparsityState) -> None:
        """Take over masks and a copy of the state of another model: see `SparseModel.follow`."""
        for name in state.layers:
            find_layer(model, name, self.state.layers)
        self.state = state.copy()
        self.begin(model)
        copy_masks(other, model, state.layers)
        self.remask(model)

    def remask(self, model: nn.Module) -> None:
        """Zero what is masked: see `remask` in masks.py."""
        coupling = self.state.coupling
        dead = () if coupling is None else self.dead_channels.entries(model, coupling)
        remask(model, self.norms, self.optimizers, dead)

    def layer(self, model: nn.Module, name: str) -> PrunedLayer:
        """Return a layer as its method sees it."""
        return self._layers(model, [name])[0]

    def _layers(self, model: nn.Module, names: Iterable[str], step: PendingStep | None = None) -> list[PrunedLayer]:
        state, sharing, optimizers = self.state, layers_by_weight(model), self.optimizers
        scale, stepped = (None, None) if step is None else step
        found = []
        for name in names:
            module = find_layer(model, name, state.layers)
            known = state.layers[name], state.clock, state.sparsity, optimizers, scale
            together = sharing[id(module.weight)]
            found.append(PrunedLayer(model, module, *known, state.coupling, state.memory, stepped, together))
        return found

    def measure(self, model: nn.Module) -> SparsityRecord:
        """Count all masks."""
        return measure(self._layers(model, self.state.layers), model, self.state, self.unmasked)

    @property
    def gathering(self) -> list[tuple[Method, list[str]]]:
        """The methods whose choice is made of data, each with the paths of its layers."""
        return [(method, names) for method, names in self.state.methods() if method.gathers]

    def gather(self, model: nn.Module) -> None:
        """Let methods see the gradients of a batch, of which no step is made."""
        self._call("gather", model)

    @property
    def optimizers(self) -> list[Optimizer]:
        """The attached optimizers that are still there."""
        known = (attachment.optimizer() for attachment in self.attachments)
        return [optimizer for optimizer in known if optimizer is not None]

    def attach(self, model: nn.Module, optimizer: Optimizer, steps_per_epoch: int | None) -> Handle:
        """Let masks ride on an optimizer: see `SparseModel.attach`."""
        others = [known for known in self.attachments if known.optimizer() is not optimizer]
        steps_per_epoch = check_attachment(model, optimizer, steps_per_epoch, others)
        self.detach(optimizer)
        counts = steps_per_epoch is not None
        if counts:
            self.state.clock.steps_per_epoch = steps_per_epoch
        hooks = [optimizer.register_step_post_hook(after_step(weakref.ref(model), counts))]
        if any(_acts(method, "before_step") for method, _ in self.state.methods()):
            hooks.append(before_step(optimizer, weakref.ref(model)))
        handle = Handle(*hooks)
        self.attachments.append(Attachment(weakref.ref(optimizer), handle, counts))
        if not self.state.clock.waiting:
            self.move_masks(model)
        self.remask(model)
        return handle

    def detach(self, optimizer: Optimizer) -> None:
        """Let masks no longer ride on an optimizer."""
        for known in self.attachments:
            if known.optimizer() is optimizer:
                known.handle.remove()
        self.attachments = [a for a in self.attachments if a.optimizer() not in (None, optimizer)]

    def _require_finite(self, model: nn.Module) -> None:
        for layer in self._layers(model, self.state.ruled):
            dense = layer.state.assignment.method.trains_masked
            if (layer.trains_dense and self.state.clock.frozen) if dense else layer.rises:
                layer.require_finite()

    def _move(self, model: nn.Module, hook: str) -> None:
        self.state.clock.waiting = False
        layers = self._layers(model, self.state.ruled)
        before = [(layer.mask, writes_to(layer.mask)) for layer in layers if not layer.trains_dense]
        self._call(hook, model)
        moved = sum(writes_to(mask) > writes for mask, writes in before)
        if not moved:
            return
        self.remask(model)
        if not self.rewound and any(method.rewinds_to is not None for method, _ in self.state.methods()):
            logger.warning("masks moved, and nothing rewinds the weights. Use campfire_fx.Rewinding.")
        record = self.measure(model)
        logger.info(
            "epoch %d: masks of %d layers moved; sparsity %.4f, target %.4f (kernels %.4f, window %.4f of the rest)",
            record.epoch,
            moved,
            record.true,
            record.target,
            *record.shares,
        )

    @torch.no_grad()
    def _call(self, hook: str, model: nn.Module, step: PendingStep | None = None, **arguments: Any) -> None:
        """Call a hook of every method that acts in it."""
        acting = [(method, names) for method, names in self.state.methods() if _acts(method, hook)]
        if acting:
            reshard(model.modules())
        for method, names in acting:
            layers = self._layers(model, names, step)
            if step is not None and not method.sees_all:
                layers = [layer for layer in layers if id(layer.module.weight) in step.held]
            getattr(method, hook)(layers, self.state.clock, **arguments)
        if any(method.packs_inputs for method, _ in acting):
            arrange_relus(model)


class PendingStep(NamedTuple):
    """An optimizer step that is about to be taken: the scale of its gradients, and ids of the parameters it holds."""

    scale: Tensor | None
    held: frozenset[int]


def _acts(method: Method, hook: str) -> bool:
    """Return whether a method has a hook of its own; `finish` is `epoch` where it has none."""
    if hook == "gather":
        return bool(method.gathers)
    own = getattr(type(method), hook) is not getattr(Method, hook)
    return own or (hook == "finish" and _acts(method, "epoch"))
