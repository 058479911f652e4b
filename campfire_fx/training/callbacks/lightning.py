"""Sparse training under Lightning."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.hooks import RemovableHandle

from campfire_fx.base.errors import CampfireError
from campfire_fx.training.callbacks.ride import Ride, snapshots_of, watch
from campfire_fx.training.smaller import Smaller


class SparseTraining(Callback):  # type: ignore[misc, unused-ignore]
    """Lets the masks of the sparse models inside a LightningModule follow its epochs and ride on its optimizers.

    `Trainer(callbacks=[SparseTraining()])`. Logs `sparsity` and `target_sparsity` as each epoch begins. Masks and
    schedule are in Lightning's checkpoints with the weights.

    Args:
        reconfigure: as an epoch begins, put a smaller sparse model in the place of one in which enough has died
            (`SparseModel.reconfigure`), so that later epochs are faster. A checkpoint then also holds the weights
            before each time, from which `fit(ckpt_path=...)` makes the same model again. In one process only: what
            wraps a model for several holds its former parameters.
    """

    def __init__(self, *, reconfigure: bool = False) -> None:
        self._reconfigure = reconfigure
        self._ride: Ride | None = None
        self._smaller: dict[str, Smaller] = {}
        self._handle: RemovableHandle | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """See to it that a checkpoint finds models of its sizes."""
        if not self._reconfigure or stage != "fit":
            return
        if trainer.world_size > 1:
            raise CampfireError(
                f"SparseTraining(reconfigure=True): there are {trainer.world_size} processes, and what wraps the model "
                "for them holds its former parameters. Train in one process, or without reconfigure."
            )

        def before_loading(*_call: object) -> None:
            path = trainer.ckpt_path
            if path is not None:
                saved = trainer.strategy.load_checkpoint(path).get("callbacks", {})
                self._smaller = watch(pl_module, saved.get(self.state_key, {}).get("snapshots", {}))

        self._smaller = watch(pl_module, {})
        self._handle = pl_module.register_load_state_dict_pre_hook(before_loading)

    def state_dict(self) -> dict[str, Any]:
        """Return what the sparse models were each time before they were made smaller."""
        return {"snapshots": snapshots_of(self._smaller)} if self._reconfigure else {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Attach, when checkpoints are loaded and optimizers made."""
        if self._handle is not None:
            self._handle.remove()
        known = trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else None
        self._ride = Ride(pl_module, trainer.optimizers, self._smaller, epochs=known)
        self._ride.epoch(trainer.current_epoch)  # an epoch that is resumed does not begin

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make smaller what is worth it, and move the masks."""
        assert self._ride is not None
        self._ride.reconfigure()
        pl_module.log_dict(self._ride.epoch(trainer.current_epoch))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002 - Lightning's
        """Detach."""
        assert self._ride is not None
        self._ride.end()
