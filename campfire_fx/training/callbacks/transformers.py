"""Sparse training under the Trainer of Hugging Face transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from transformers import TrainerCallback, TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from campfire_fx.base.errors import CampfireError
from campfire_fx.training.callbacks.ride import Ride, snapshots_of, watch
from campfire_fx.training.smaller import Smaller

_FILE = "campfire_fx_snapshots.pt"


class SparseTraining(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Lets the masks of the sparse models inside the Trainer's model follow its epochs and ride on its optimizer.

    `Trainer(callbacks=[SparseTraining()])`. Adds `sparsity` and `target_sparsity` to `state.log_history` as each epoch
    begins. Masks and schedule are in the Trainer's checkpoints with the weights.

    Args:
        reconfigure: as an epoch begins, put a smaller sparse model in the place of one in which enough has died
            (`SparseModel.reconfigure`), so that later epochs are faster. In one process only, and where the sparse
            model is a part of the Trainer's model. Checkpoints then hold one more file; to resume from one, call
            `resume` before `Trainer.train`, which loads weights before callbacks are asked.
    """

    def __init__(self, *, reconfigure: bool = False) -> None:
        self._reconfigure = reconfigure
        self._ride: Ride | None = None
        self._smaller: dict[str, Smaller] | None = None

    def resume(self, model: nn.Module, checkpoint: str | Path) -> None:
        """Make the sparse models inside a model as small as they were when a checkpoint was written.

        Args:
            model: the Trainer's model, new: with what `sparsify` returned.
            checkpoint: the folder, as for `Trainer.train(resume_from_checkpoint=...)`.

        Raises:
            CampfireError: the folder holds no checkpoint of a training with `reconfigure=True`, or of another model.
        """
        path = Path(checkpoint) / _FILE
        if not path.is_file():
            raise CampfireError(
                f"{checkpoint}: there is no {_FILE}. Give a checkpoint of a training with "
                "SparseTraining(reconfigure=True)."
            )
        self._smaller = watch(model, torch.load(path, weights_only=True))

    def on_train_begin(
        self, args: Any, state: TrainerState, _control: Any, *, model: nn.Module, optimizer: Optimizer, **_rest: Any
    ) -> None:
        """Attach, when a checkpoint is loaded and the optimizer made."""
        if self._reconfigure and args.world_size > 1:
            raise CampfireError(
                f"SparseTraining(reconfigure=True): there are {args.world_size} processes, and what wraps the model "
                "for them holds its former parameters. Train in one process, or without reconfigure."
            )
        if self._reconfigure and self._smaller is None:
            self._smaller = watch(model, {})
        self._ride = Ride(model, [optimizer], self._smaller, epochs=state.num_train_epochs or None)

    def on_epoch_begin(self, _args: Any, state: TrainerState, _control: Any, **_rest: Any) -> None:
        """Make smaller what is worth it, and move the masks. An epoch that is resumed begins at a fraction of it."""
        assert self._ride is not None
        epoch = float(state.epoch or 0)
        if epoch.is_integer():
            self._ride.reconfigure()
        numbers = self._ride.epoch(int(epoch))
        state.log_history.append({**numbers, "epoch": state.epoch, "step": state.global_step})

    def on_save(self, args: Any, state: TrainerState, _control: Any, **_rest: Any) -> None:
        """Write what the sparse models were each time before they were made smaller."""
        if self._smaller is not None:
            folder = Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
            torch.save(snapshots_of(self._smaller), folder / _FILE)

    def on_train_end(self, _args: Any, _state: Any, _control: Any, **_rest: Any) -> None:
        """Detach."""
        assert self._ride is not None
        self._ride.end()
