"""What is written down while training: a CSV file, and TensorBoard's where asked for."""

from __future__ import annotations

import csv
import importlib.util
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from campfire_fx.base.disk.whole import write_text
from campfire_fx.base.errors import TrainError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_EVERY = 10  # steps between two points of a curve


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch as it went.

    Attributes:
        epoch: counted from 0.
        loss: mean over the training images.
        valid: share of the validation images right.
        seconds: it took, over all runs that had a part in it.
        rate: learning rate at its last step.
        target, sparsity: zeros due, and there, in the masked layers when the validation images were looked at, with
            the masks of the next epoch in place; None, as the next two, for a dense network.
        kernels: share of the kernels that were masked whole.
        window: share of the zeros inside the others.
        primal, dual: ADMM's residuals ||W - Z||^2 and ||Z' - Z||^2 at the update that the epoch ended in, summed over
            the layers; None where there was none.
        valid5: share of the validation images whose class was among the first five answers (top-5); None where there
            are few classes.
    """

    epoch: int
    loss: float
    valid: float
    seconds: float
    rate: float = 0.0
    target: float | None = None
    sparsity: float | None = None
    kernels: float | None = None
    window: float | None = None
    primal: float | None = None
    dual: float | None = None
    valid5: float | None = None


class Journal:
    """`log.csv`, a row per network and epoch, and TensorBoard's files under `tensorboard/NETWORK/`.

    The CSV file is written anew from the history, so a resumed run leaves the rows that an uninterrupted one does.

    Args:
        folder: the run's output folder.
        tensorboard: write TensorBoard's files too.

    Raises:
        TrainError: TensorBoard is asked for and not installed.
    """

    def __init__(self, folder: Path, *, tensorboard: bool = False) -> None:
        if tensorboard and importlib.util.find_spec("tensorboard") is None:
            raise TrainError("--tensorboard: it is not installed. Run pip install 'campfire-fx[tensorboard]'.")
        self.folder = folder
        self.tensorboard = tensorboard
        self._writer: SummaryWriter | None = None
        self._rows: dict[str, Sequence[Epoch]] = {}

    def begin(self, network: str, step: int, history: Sequence[Epoch]) -> None:
        """Begin a network's training, or go on with it after `step` steps."""
        self.close()
        if self.tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            place = self.folder / "tensorboard" / network.replace(" ", "-")
            self._writer = SummaryWriter(str(place), purge_step=step)
        self._write(network, history)

    def step(self, step: int, loss: float, rate: float) -> None:
        """Note a step, counted from 1."""
        if self._writer is not None and step % _EVERY == 0:
            self._writer.add_scalar("train/loss", loss, step)
            self._writer.add_scalar("train/rate", rate, step)

    def epoch(self, network: str, step: int, history: Sequence[Epoch]) -> None:
        """Note the epoch at the end of the history."""
        self._write(network, history)
        if self._writer is not None:
            last = history[-1]
            self._writer.add_scalar("valid/accuracy", last.valid, step)
            if last.valid5 is not None:
                self._writer.add_scalar("valid/top5", last.valid5, step)
            if last.target is not None:
                self._writer.add_scalar("sparsity/target", last.target, step)
                self._writer.add_scalar("sparsity/true", last.sparsity, step)
            for name, residual in (("primal", last.primal), ("dual", last.dual)):
                if residual is not None:
                    self._writer.add_scalar(f"admm/{name}", residual, step)
            self._writer.flush()

    def close(self) -> None:
        """Close TensorBoard's files."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _write(self, network: str, history: Sequence[Epoch]) -> None:
        self._rows[network] = tuple(history)
        names = [field.name for field in fields(Epoch)]
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["network", *names])
        for title, epochs in self._rows.items():
            table.writerows([title, *asdict(epoch).values()] for epoch in epochs)
        write_text(self.folder / "log.csv", text.getvalue(), TrainError)
