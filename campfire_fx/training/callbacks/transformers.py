"""Sparse training under the Trainer of Hugging Face transformers."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import Optimizer
from transformers import TrainerCallback, TrainerState

from campfire_fx.training.callbacks.ride import Ride


class SparseTraining(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Lets the masks of the sparse models inside the Trainer's model follow its epochs and ride on its optimizer.

    `Trainer(callbacks=[SparseTraining()])`. Adds `sparsity` and `target_sparsity` to `state.log_history` as each epoch
    begins. Masks and schedule are in the Trainer's checkpoints with the weights.
    """

    def __init__(self) -> None:
        self._ride: Ride | None = None

    def on_train_begin(
        self, _args: Any, _state: Any, _control: Any, *, model: nn.Module, optimizer: Optimizer, **_rest: Any
    ) -> None:
        """Attach, when a checkpoint is loaded and the optimizer made."""
        self._ride = Ride(model, [optimizer])

    def on_epoch_begin(self, _args: Any, state: TrainerState, _control: Any, **_rest: Any) -> None:
        """Move the masks. An epoch that is resumed begins at a fraction of it."""
        assert self._ride is not None
        numbers = self._ride.epoch(int(state.epoch or 0))
        state.log_history.append({**numbers, "epoch": state.epoch, "step": state.global_step})

    def on_train_end(self, _args: Any, _state: Any, _control: Any, **_rest: Any) -> None:
        """Detach."""
        assert self._ride is not None
        self._ride.end()
