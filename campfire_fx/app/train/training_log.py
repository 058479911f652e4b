"""The log of a run: `log.csv`, a row per network and epoch, written and read; and TensorBoard's files if asked for."""

from __future__ import annotations

import csv
import importlib.util
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from campfire_fx.base.disk.whole import write_text
from campfire_fx.base.errors import ReportError, TrainError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LOG = "log.csv"
_EVERY = 10  # steps between two points of a curve
_COLUMNS = {"valid": "valid_accuracy", "valid5": "valid_top5"}  # where it is not the field's name, as it once was


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch of one network; None is what a log does not say.

    Attributes:
        epoch: counted from 0.
        loss: mean over the training images.
        valid: accuracy on the validation images, in [0, 1].
        seconds: it took, over all runs that had a part in it.
        rate: learning rate at its last step.
        target, sparsity: share of zeros due, and there, in the weights of the masked layers as the epoch ends, when the
            masks are those of the next one; None, as the next two, for a dense network.
        kernels: share of those weights in dead kernels.
        window: share of zeros inside the other kernels.
        primal, dual: ADMM's residuals ||W - Z||^2 and ||Z' - Z||^2 at the update that the epoch ended in, summed over
            the layers; None where there was none.
        penalty: what a penalty on the weights adds to the loss as the next epoch begins; None where there is none.
        valid5: share of the validation images whose class was among the first five answers (top-5); None where there
            are few classes.
    """

    epoch: int
    loss: float | None = None
    valid: float | None = None
    seconds: float | None = None
    rate: float | None = None
    target: float | None = None
    sparsity: float | None = None
    kernels: float | None = None
    window: float | None = None
    primal: float | None = None
    dual: float | None = None
    penalty: float | None = None
    valid5: float | None = None


_FIELDS = tuple(field.name for field in fields(Epoch))


def check_tensorboard(asked: bool) -> None:
    """Raise a TrainError if TensorBoard is asked for and not installed."""
    if asked and importlib.util.find_spec("tensorboard") is None:
        raise TrainError("--tensorboard: it is not installed. Run pip install 'campfire-fx[tensorboard]'.")


class TrainingLog:
    """Writes `log.csv`, and TensorBoard's files under `tensorboard/NETWORK/`.

    The CSV file is written anew from the history, so a resumed run leaves the rows that an uninterrupted one does.

    Args:
        folder: the run's output folder.
        tensorboard: write TensorBoard's files too.

    Raises:
        TrainError: TensorBoard is asked for and not installed.
    """

    def __init__(self, folder: Path, *, tensorboard: bool = False) -> None:
        check_tensorboard(tensorboard)
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
            if last.penalty is not None:
                self._writer.add_scalar("sparsity/penalty", last.penalty, step)
            self._writer.flush()

    def close(self) -> None:
        """Close TensorBoard's files."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _write(self, network: str, history: Sequence[Epoch]) -> None:
        self._rows[network] = tuple(history)
        names = [_COLUMNS.get(name, name) for name in _FIELDS]
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["network", *names])
        for title, epochs in self._rows.items():
            table.writerows([title, *asdict(epoch).values()] for epoch in epochs)
        write_text(self.folder / LOG, text.getvalue(), TrainError)


def read_log(path: Path) -> dict[str, tuple[Epoch, ...]]:
    """Read the epochs of each network, by its name; other columns are passed over.

    Raises:
        ReportError: the file holds something else.
    """
    found: dict[str, list[Epoch]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                numbers = {name: _number(row, name) for name in _FIELDS[1:]}
                found.setdefault(row["network"], []).append(Epoch(int(row["epoch"]), **numbers))
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise ReportError(f"Log at {path}: it cannot be read ({error!r}). Move it away, or train again.") from error
    return {name: tuple(epochs) for name, epochs in found.items()}


def _number(row: Mapping[str, str | None], name: str) -> float | None:
    text = row.get(_COLUMNS.get(name, name)) or row.get(name)
    return float(text) if text else None
