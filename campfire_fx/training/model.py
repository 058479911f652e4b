"""SparseModel: a captured model whose layers obey masks, and the schedule that moves them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from campfire_fx.base.choices import Compensate, Residual
from campfire_fx.base.compat import IncompatibleKeys, pytree
from campfire_fx.base.errors import RegimeError
from campfire_fx.base.numbers import plain
from campfire_fx.layers.bake_masks import baked_copy
from campfire_fx.layers.dressing import Dress, dress
from campfire_fx.sparsity import saved_state
from campfire_fx.sparsity.record import SparsityRecord
from campfire_fx.training.attachment import bare
from campfire_fx.training.gather import gather
from campfire_fx.training.life_cycle import LifeCycle
from campfire_fx.training.masks import mask_names
from campfire_fx.training.shrinking import check_shrinkable, remarks

if TYPE_CHECKING:
    import networkx as nx

    from campfire_fx.report.sparsity import SparsityReport
    from campfire_fx.shrink.slim import SlimModel


class SparseModel(Dress):
    """A model in sparse training. Made by `campfire_fx.sparsify`; an fx.GraphModule where the whole was captured.

    It runs as the model given does, with the same parameters under the same names, at no extra cost. Masks move
    only when an epoch begins (`attach` with steps_per_epoch, or `epoch`); after every optimizer step they are put
    back on the weights (`attach`, or `step`). Copies (`deepcopy`, pickle) are attached to no optimizer.
    """

    _life_cycle: LifeCycle

    def attach(self, optimizer: Optimizer, steps_per_epoch: int | None = None) -> RemovableHandle:
        """Apply the masks after every `optimizer.step()`; the training loop stays as it is.

        After every step, weights and optimizer state under the masks are zeroed. With `steps_per_epoch` the steps
        are counted and the schedule moves by itself; without, call `epoch(e)` as each epoch begins. Of several
        optimizers attach each, and give one of them steps_per_epoch. Attaching again replaces.

        Args:
            optimizer: built from this model's parameters, bare or as Accelerate and Lightning wrap it.
            steps_per_epoch: optimizer steps in an epoch: len(loader), divided by the accumulation steps if any.

        Returns a handle; its `remove()` detaches.

        Raises:
            RegimeError: the optimizer holds no parameter of this model, the number is not positive, or another counts.
        """
        return self._life_cycle.attach(self, bare(optimizer), steps_per_epoch)

    def step(self) -> None:
        """Apply the masks after an optimizer step, if the optimizer is not attached."""
        self._life_cycle.after_step(self, leads=not self._life_cycle.optimizers, by_hand=True)

    def before_step(self) -> None:
        """Do what a regime needs before an optimizer step, if the optimizer is not attached.

        That is ADMM's pull on the weights, and the exchange of weights by drop and grow; other regimes need nothing.
        """
        self._life_cycle.before_step(self, self.parameters())

    def epoch(self, epoch: int) -> None:
        """Begin an epoch, counted from 0: the masks move to the sparsity that is due in it.

        Raises:
            RegimeError: the epoch is not a whole number from 0 up, or a weight is not finite.
        """
        epoch = plain(epoch)
        if type(epoch) is not int or epoch < 0:
            raise RegimeError(f"epoch: {epoch!r} is not an epoch. Give a whole number, counted from 0.")
        self._life_cycle.state.clock.epoch, self._life_cycle.state.clock.step = epoch, 0
        self._life_cycle.epoch(self)

    def finalize(self) -> SparseModel:
        """Jump to the end of the era: every layer gets its final sparsity now, and masks no longer change.

        On a trained model this is one-shot pruning. Returns the model itself.

        Raises:
            RegimeError: a weight is not finite.
        """
        self._life_cycle.finish(self)
        return self

    def gather(self, loss_fn: Callable[[Any, Any], Tensor], batches: Iterable[Any], count: int = 8) -> SparseModel:
        """Gather the gradients that a score such as "taylor" is made of, without training; then call `finalize`.

        Runs in evaluation mode: weights, statistics and gradients stay as they are. Returns the model itself.

        Args:
            loss_fn: from this model and a batch to the loss, a number.
            batches: a loader, or any series of batches.
            count: the most of them that are used.

        Raises:
            RegimeError: the regime's score needs no data, or there was no batch.
        """
        gather(self, self._life_cycle, loss_fn, itertools.islice(batches, count))
        return self

    def set_mask(self, name: str, mask: Tensor) -> None:
        """Set the mask of a layer by hand; from then on the regime does not change it.

        Args:
            name: path of a convolution or linear layer.
            mask: of the weight's shape; True or non-zero = kept. A weight that is kept again starts from 0.

        Raises:
            RegimeError: no such layer, or another shape.
        """
        self._life_cycle.set_mask(self, name, mask)

    def follow(self, other: SparseModel) -> None:
        """Take over masks, schedule and clock of the model in training, if this one is an average of its weights.

        Call it after each update of the average, whose weights are not zero where masks have changed.

        Raises:
            RegimeError: the other has other layers.
        """
        self._life_cycle.follow(self, other, other._life_cycle.state)

    def sparsity(self) -> SparsityRecord:
        """Return target and true sparsity, in all and per layer, with what stays dense and why."""
        return self._life_cycle.measure(self)

    def report(self) -> SparsityReport:
        """Return the sparsity of every layer as a table; print it with rich or `print`."""
        from campfire_fx.report.sparsity import sparsity_report  # slow to load

        return sparsity_report(self.sparsity())

    @property
    def trains_masked(self) -> bool:
        """Whether weights under the masks still train, as the SWAT regimes have it; `finalize` ends that."""
        return any(self._life_cycle.state.training_masked())

    @property
    def can_reconfigure(self) -> bool:
        """Whether `reconfigure` can be called now: masks are final, or move on in a smaller model."""
        return self.sparsity().frozen or self._life_cycle.state.goes_on_smaller

    @property
    def dependency_graph(self) -> nx.DiGraph:
        """How channels flow between the layers: see `campfire_fx.dependency_graph`."""
        from campfire_fx.shrink.dependency import dependency_graph

        return dependency_graph(baked_copy(self) if self.trains_masked else self, examples=self._given())

    def shrink(
        self,
        residual: Residual = "union",
        *,
        round_to: int = 1,
        verify: bool = True,
        optimizer: Optimizer | None = None,
        columns: bool = False,
        compensate: Compensate = "auto",
        fold_norms: bool = False,
        groups: bool = False,
    ) -> SlimModel:
        """Return the smaller model with the same output; this one stays as it is.

        Masks are taken as they are now: before the era has ended, `finalize` sets the final ones.

        Args:
            residual: "union" or "gate"; this and the next two as in `campfire_fx.shrink`.
            round_to: keep a multiple of so many channels.
            verify: prove that the output is the same.
            optimizer: of this model; it becomes the smaller one's, state cut alike, and is detached from this model.
            columns: gather live columns where that is faster; this and the next two as in `campfire_fx.shrink`.
            compensate: take constant channels out of norms that measure them: "auto", "always" or "never".
            fold_norms: fold BatchNorms into the layers before them; for deployment, since the result trains otherwise.
            groups: convolve in groups where filters fall into sets, as "grouped" leaves them, and that is faster.

        Raises:
            ShrinkError: equality cannot be proven, or the weights are spread over processes; nothing is changed.
        """
        from campfire_fx.shrink.slim import Origin, shrink

        optimizer, record = None if optimizer is None else bare(optimizer), self.sparsity()
        check_shrinkable(self, optimizer, record, trains_masked=self.trains_masked)
        wish: dict[str, Any] = {"columns": columns, "compensate": compensate, "fold_norms": fold_norms}
        wish |= {"residual": residual, "round_to": round_to, "verify": verify, "optimizer": optimizer, "groups": groups}
        slim = shrink(baked_copy(self), examples=self._given(), **wish)
        if optimizer is not None:
            self._life_cycle.detach(optimizer)
        slim._origin = Origin(self)  # it lives longer than the baked copy
        slim.plan = replace(slim.plan, remarks=() if optimizer else remarks(record, slim), guessed=self._guessed)
        return slim

    def reconfigure(
        self,
        optimizer: Optimizer | None = None,
        *,
        residual: Residual = "union",
        round_to: int = 1,
        verify: bool = True,
    ) -> SparseModel:
        """Return a smaller sparse model to go on training with, so that later epochs are faster.

        `shrink`, with masks on what is left. A step of it is this model's step on the weights that are left, unless
        dead channels have constants that train: behind a bias that no norm follows, and with dead_norm="keep".
        Wrap it again for DistributedDataParallel or torch.compile. (PruneTrain's dynamic reconfiguration.)

        Args:
            optimizer: of this model; it becomes the new one's, state cut alike, and stays attached if it was.
            residual: this and the next two as in `shrink`.
            round_to: keep a multiple of so many channels.
            verify: prove that the output is the same.

        Raises:
            RegimeError: masks still move, by a method that cannot go on in a smaller model.
            ShrinkError: as `shrink`; nothing is changed.
        """
        from campfire_fx.training.reconfiguration import check_reconfigurable, mask_again

        cycle = self._life_cycle
        goes_on = check_reconfigurable(self.sparsity(), cycle.state)
        attached = [a for a in cycle.attachments if optimizer and a.optimizer() is bare(optimizer)]
        slim = self.shrink(residual, round_to=round_to, verify=verify, optimizer=optimizer)
        smaller = dress(slim, SparseModel, {"_life_cycle": mask_again(slim, self, cycle, goes_on=goes_on)})
        smaller._life_cycle.remask(smaller)
        if optimizer is not None and attached:
            smaller.attach(optimizer, cycle.state.clock.steps_per_epoch if attached[0].counts else None)
        return smaller

    def get_extra_state(self) -> Tensor:
        """Return what a state_dict holds besides weights and masks: schedule and clock, uint8."""
        return saved_state.to_tensor(self._life_cycle.state)

    def set_extra_state(self, state: Any) -> None:
        """Take over a saved schedule and clock."""
        saved_state.load(self._life_cycle.state, state)
        self._life_cycle.begin(self)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> IncompatibleKeys:
        """Load a dense or a sparse state_dict.

        A sparse one brings masks and schedule, and the run goes on as if never stopped. A dense one leaves both as
        they are, and its weights are masked.

        Raises:
            RegimeError: it was saved under another regime, or in a wrapper; nothing is changed.
        """
        saved_state.check_names(state_dict, (name for name, _ in self.named_parameters()))
        result = super().load_state_dict(state_dict, strict, assign)
        self._life_cycle.loaded(self, dense=not any(key.endswith("_extra_state") for key in state_dict))
        return result

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, metadata: Any, strict: bool, missing: list[str], *rest: Any
    ) -> None:
        key = f"{prefix}_extra_state"
        if key in state_dict:
            self.set_extra_state(state_dict[key])  # first: another regime's must change nothing
        super()._load_from_state_dict(state_dict, prefix, metadata, strict, missing, *rest)
        missing[:] = [name for name in missing if name != key]

    @property
    def _ddp_params_and_buffers_to_ignore(self) -> list[str]:
        """Names of buffers that DistributedDataParallel need not send before every forward: all ranks have the same."""
        return mask_names(self)

    @property
    def example(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """(args, kwargs) it was captured with (the first, of several), on its present device and in its dtype."""
        return self.examples[0]

    @property
    def examples(self) -> tuple[tuple[tuple[Any, ...], dict[str, Any]], ...]:
        """All examples that the model was captured with, likewise."""
        like = next(self.parameters())

        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(like.device, like.dtype if tensor.is_floating_point() else None)

        return pytree.tree_map_only(Tensor, moved, self._life_cycle.examples)

    @property
    def _guessed(self) -> bool:
        return self._life_cycle.guessed

    def _given(self) -> list[Any]:
        return [kwargs or args for args, kwargs in self.examples]  # as `shrink` takes them
