"""Sparse training under Lightning."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer

from campfire_fx.training.callbacks.ride import Ride


class SparseTraining(Callback):  # type: ignore[misc, unused-ignore]
    """Lets the masks of the sparse models inside a LightningModule follow its epochs and ride on its optimizers.

    `Trainer(callbacks=[SparseTraining()])`. Logs `sparsity` and `target_sparsity` as each epoch begins. Masks and
    schedule are in Lightning's checkpoints with the weights.
    """

    def __init__(self) -> None:
        self._ride: Ride | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Attach, when checkpoints are loaded and optimizers made."""
        self._ride = Ride(pl_module, trainer.optimizers)
        self._ride.epoch(trainer.current_epoch)  # an epoch that is resumed does not begin

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move the masks."""
        assert self._ride is not None
        pl_module.log_dict(self._ride.epoch(trainer.current_epoch))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002 - Lightning's
        """Detach."""
        assert self._ride is not None
        self._ride.end()
