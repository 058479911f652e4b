"""What is told of a training as it goes: the log, the lines of a terminal, trackers; each is an Observer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


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
        macs_left: share of the dense network's multiply-accumulates that its live channels have; None where no whole
            channels die.
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
    macs_left: float | None = None


@dataclass(frozen=True, slots=True)
class Course:
    """The training of one network, as it begins or goes on.

    Attributes:
        network: its name.
        epochs: that it takes in all.
        per_epoch: steps of an epoch.
        step: steps done before, over all epochs.
    """

    network: str
    epochs: int
    per_epoch: int
    step: int = 0


class Observer:
    """Is told what happens in a training; this one does nothing with it."""

    def begin(self, course: Course, history: Sequence[Epoch]) -> None:
        """A training begins, or goes on after the epochs of the history."""

    def step(self, step: int, loss: float, rate: float) -> None:
        """A step is done, counted from 1 over all epochs: its loss and its learning rate."""

    def epoch(self, step: int, history: Sequence[Epoch]) -> None:
        """An epoch is done, the last one of the history, after so many steps over all epochs."""

    def end(self, *, whole: bool) -> None:
        """The training is over: `whole` says whether it came to its end, or was stopped."""

    def tested(self, network: str, values: Mapping[str, float]) -> None:
        """A network is tested and measured, after all trainings: its final numbers, by name."""

    @contextmanager
    def watching(self, course: Course, history: Sequence[Epoch]) -> Iterator[None]:
        """Tell the beginning and the end of a training that runs in the block."""
        self.begin(course, history)
        whole = False
        try:
            yield
            whole = True
        finally:
            self.end(whole=whole)


class Observers(Observer):
    """Tells several the same, in their order."""

    def __init__(self, *observers: Observer) -> None:
        self._all = observers

    def begin(self, course: Course, history: Sequence[Epoch]) -> None:
        """Tell all."""
        for one in self._all:
            one.begin(course, history)

    def step(self, step: int, loss: float, rate: float) -> None:
        """Tell all."""
        for one in self._all:
            one.step(step, loss, rate)

    def epoch(self, step: int, history: Sequence[Epoch]) -> None:
        """Tell all."""
        for one in self._all:
            one.epoch(step, history)

    def end(self, *, whole: bool) -> None:
        """Tell all."""
        for one in reversed(self._all):  # the bar of a terminal goes before another one writes below it
            one.end(whole=whole)

    def tested(self, network: str, values: Mapping[str, float]) -> None:
        """Tell all."""
        for one in self._all:
            one.tested(network, values)
