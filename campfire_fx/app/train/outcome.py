"""What the main job found, as records."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor, nn

from campfire_fx.app.train.tally import Tally
from campfire_fx.cost.measure import Latency, macs, parameters
from campfire_fx.cost.time_ratio import TimeRatio
from campfire_fx.sparsity.record import CostRecord

LATENCY_BATCH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Row(Tally):
    """One network of the final table, and what it knows of the test images.

    Attributes:
        name: "dense", "sparse", "slim" or "slim from scratch".
        parameters: weights and biases; nonzero: those that are not 0.
        macs: multiply-accumulates for one image.
        latency_ms: median time of a batch of LATENCY_BATCH images.
        latency_ratio: that over the time of the first network, called in turns with it; None of that one itself.
        bytes: size of its .safetensors file and the code beside it.
    """

    name: str
    parameters: int
    nonzero: int
    macs: int
    latency_ms: float
    bytes: int
    latency_ratio: TimeRatio | None = None

    def numbers(self) -> dict[str, float]:
        """Return its numbers, by name."""
        names = ("parameters", "nonzero", "macs", "latency_ms", "bytes")
        top5 = {} if self.top5 is None else {"top5": self.top5}
        return {"accuracy": self.accuracy, **top5, **{name: getattr(self, name) for name in names}}


@dataclass(frozen=True, slots=True)
class Reloaded:
    """An exported file, loaded again: largest relative difference of its outputs, and equal answers of how many."""

    file: str
    bytes: int
    difference: float
    same: int
    images: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """The final table and what was proven on the way.

    Attributes:
        rows: of dense, sparse, slim, slim from scratch, those that were trained.
        reloaded: the exported files.
        target, sparsity: share of zeros asked of the masked layers, and reached; None without a sparse network.
        difference: largest relative difference between the outputs of sparse and slim, measured by `shrink`; or None.
        seconds: the job, as far as this process did it.
        watched: whether the test images were also those that training was watched on.
        skipped: images that could not be read.
        settings: what the job was told, the recipe under "recipe".
        costs: where whole channels died: what is left of the dense network's costs, and how much might be.
    """

    rows: tuple[Row, ...]
    reloaded: tuple[Reloaded, ...]
    target: float | None
    sparsity: float | None
    difference: float | None
    seconds: float
    watched: bool = False
    skipped: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    costs: tuple[CostRecord, ...] = ()

    def to_json(self) -> str:
        """Return the outcome as JSON text."""
        rows = [asdict(row) | {"accuracy": row.accuracy, "top5": row.top5} for row in self.rows]
        return json.dumps(asdict(self) | {"rows": rows}, indent=2)


def row_of(network: nn.Module, example: Tensor, latency: Latency, *, name: str, tested: Tally, size: int) -> Row:
    """Measure one network on `example`, one image (1, C, H, W); what took images or files to find is given."""
    return Row(
        **asdict(tested),
        name=name,
        parameters=parameters(network),
        nonzero=sum(int(tensor.count_nonzero()) for tensor in network.parameters()),
        macs=macs(network, (example,)).total,
        latency_ms=latency.median_ms,
        latency_ratio=latency.ratio,
        bytes=size,
    )
