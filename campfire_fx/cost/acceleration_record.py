"""What was measured when a model was accelerated: each layer in each form, and the whole network before and after."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from campfire_fx.base.records import Record
from campfire_fx.cost.measure import Latency


@dataclass(frozen=True, slots=True)
class FormTime(Record):
    """One form of one layer: the milliseconds of all of its calls, or in words why it was not timed."""

    form: str
    ms: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LayerChoice(Record):
    """The form that one layer has, and why.

    Attributes:
        name: the layer's path.
        operation: "Conv2d", "Linear", ...
        weight: its shape; () for max pooling.
        inputs: shape of what each of its calls reads.
        macs: multiply-accumulates of all calls, zeros counted.
        zeros: share of the weights that are zero.
        fused: what is computed with it: "sum", and the name of the activation.
        times: every form, in the order of the table.
        form: the one chosen.
        reason: why that one, or why no other.
    """

    name: str
    operation: str
    weight: tuple[int, ...]
    inputs: tuple[tuple[int, ...], ...]
    macs: int
    zeros: float
    fused: tuple[str, ...]
    times: tuple[FormTime, ...]
    form: str
    reason: str

    def ms(self, form: str) -> float | None:
        """Return the milliseconds of a form; None where it was not timed."""
        return next((time.ms for time in self.times if time.form == form), None)

    @property
    def useful_gflops(self) -> float | None:
        """Billions of operations a second that do not multiply by zero, in the form chosen."""
        ms = self.ms(self.form)
        return 2e-6 * self.macs * (1 - self.zeros) / ms if ms else None


@dataclass(frozen=True, slots=True)
class Acceleration(Record):
    """What `accelerate` has measured and decided.

    Attributes:
        layers: every convolution, linear layer and max pooling that the graphs call.
        whole: the network's time by its form: "dense", "dense, channels last" and "accelerated", timed in turns.
        chosen: the form that was given back.
        threads: with which it was timed.
        processor: on which.
        kernels: the compiler that made them, or in words why there are none.
        guessed: whether nothing said what the model is called with, and the example was guessed.
    """

    layers: tuple[LayerChoice, ...]
    whole: dict[str, Latency]
    chosen: str
    threads: int
    processor: str
    kernels: str
    guessed: bool = False

    def _told(self) -> Iterator[str]:
        yield self.chosen
        yield f"{self.gain:.2f} times as fast as dense"
        yield f"{len(self.layers)} layers"
        yield f"{self.threads} thread{'s' * (self.threads > 1)}"

    @property
    def gain(self) -> float:
        """How many times as fast as the faster dense form the one given back is; 1 where that is dense itself."""
        dense = min(latency.median_ms for form, latency in self.whole.items() if form != "accelerated")
        return dense / self.whole[self.chosen].median_ms

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data, for JSON."""
        return asdict(self) | {"gain": self.gain}
