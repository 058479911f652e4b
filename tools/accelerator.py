"""The machine that estimates are for: an array of processing elements that skip zeros, and its memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from campfire_fx.base.errors import CostError
from campfire_fx.base.numbers import plain_fields


@dataclass(frozen=True, slots=True)
class Accelerator:
    """A sparse training accelerator, by its assumptions. Each default is a round number that was chosen beforehand.

    Processing elements (PEs) stand in rows and columns; each multiplies once in a cycle. In every pass one operand is
    sparse: a row works on one unit of it (a filter, or an input channel), and the PEs of a row share what it keeps
    and work on different positions of the dense operand. Rows meet at a barrier after each tile, so the fullest row
    sets the time of all. None of the numbers is SWAT's: its simulator's are not published.

    Attributes:
        rows: PEs that work on different units, each with zeros of its own.
        columns: PEs of a row, which share these zeros.
        tile: positions of the sparse operand that a row works through between two barriers, as many whole kernels as
            fit (144: sixteen 3x3 kernels); at least one kernel.
        scan: positions that a PE can look at in a cycle: skipping never makes a tile faster than by this factor.
        clock_ghz: cycles in a nanosecond.
        bandwidth_gbs: of the memory, in 1e9 bytes a second.
        value_bits: of a weight, an activation or a gradient.
        batch: samples that share one reading of the weights.
        stem_input_gradient: whether the first layer's input gradient is computed; nothing needs it.
        position_rows: in the weight gradient a row works on positions of the input, all channels of each, and not on a
            channel. Rows then have sums to add to each other's, which is not counted.

    Raises:
        CostError: a number is below its least.
    """

    rows: int = 32
    columns: int = 32
    tile: int = 144
    scan: int = 16
    clock_ghz: float = 1.0
    bandwidth_gbs: float = 256.0
    value_bits: int = 16
    batch: int = 32
    stem_input_gradient: bool = False
    position_rows: bool = False

    def __post_init__(self) -> None:
        plain_fields(self)
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "bool":
                continue
            whole = field.type == "int"
            if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
                raise CostError(f"Accelerator: {field.name} is {value!r}, which is no {'whole ' * whole}number.")
            if not (value >= 1 if whole else 0 < value < math.inf):
                raise CostError(f"Accelerator: {field.name} is {value!r}. Give {'1 or more' if whole else 'above 0'}.")

    @property
    def macs_per_second(self) -> float:
        """Multiply-accumulates in a second with every PE at work."""
        return self.rows * self.columns * self.clock_ghz * 1e9

    def seconds(self, positions: float, n_bytes: float) -> float:
        """Return the time for so many PE positions and memory bytes; computing and moving data overlap."""
        return max(positions / self.macs_per_second, n_bytes / (self.bandwidth_gbs * 1e9))
