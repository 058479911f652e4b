"""A model of an accelerator that skips zeros, and how much faster sparse training is on it.

`estimate` weighs cycles, with their imbalance, against memory traffic; docs/accelerator.md says what is assumed, and
`estimate_accelerator.py` prints its tables.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

from load_balance import busy_fraction, expected_busy_fraction
from torch import Tensor

from campfire_fx.base.errors import CostError
from campfire_fx.base.numbers import plain_fields
from campfire_fx.cost import Layer, Work

FORWARD = ("forward",)
BACKWARD = ("input gradient", "weight gradient")
TRAINING = FORWARD + BACKWARD


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


@dataclass(frozen=True, slots=True)
class PassCost:
    """One pass of one layer over a batch.

    Attributes:
        macs: dense multiply-accumulates.
        kept_macs: of them, those whose sparse operand is not zero.
        positions: what the fullest PEs have to work through, in the same unit: kept_macs x imbalance, or more where
            scanning is the limit.
        dense_bytes: memory traffic with dense tensors.
        sparse_bytes: memory traffic with sparse ones, index included.
    """

    macs: float
    kept_macs: float
    positions: float
    dense_bytes: float
    sparse_bytes: float


@dataclass(frozen=True, slots=True)
class LayerEstimate:
    """One layer's passes by name: "forward", "input gradient", "weight gradient"."""

    name: str
    passes: dict[str, PassCost]


@dataclass(frozen=True, slots=True)
class AcceleratorEstimate:
    """What sparsity gains on a machine, layer by layer; speed-ups are dense time over sparse time, layers summed."""

    machine: Accelerator
    layers: tuple[LayerEstimate, ...]

    def ideal_speedup(self, passes: Iterable[str] = TRAINING) -> float:
        """Return the speed-up if only multiplications took time, in perfect balance."""
        found = self._passes(passes)
        return _ratio(sum(cost.macs for cost in found), sum(cost.kept_macs for cost in found))

    def compute_speedup(self, passes: Iterable[str] = TRAINING) -> float:
        """Return the speed-up with the imbalance and the limit of scanning, and memory that is never waited for."""
        found = self._passes(passes)
        return _ratio(sum(cost.macs for cost in found), sum(cost.positions for cost in found))

    def speedup(self, passes: Iterable[str] = TRAINING) -> float:
        """Return the speed-up with everything: each pass takes the longer of computing and moving data."""
        found, seconds = self._passes(passes), self.machine.seconds
        dense = sum(seconds(cost.macs, cost.dense_bytes) for cost in found)
        return _ratio(dense, sum(seconds(cost.positions, cost.sparse_bytes) for cost in found))

    def _passes(self, names: Iterable[str]) -> list[PassCost]:
        wanted = tuple(names)
        for name in wanted:
            if name not in TRAINING:
                raise CostError(f"'{name}' is no pass. There are {', '.join(TRAINING)}.")
        return [layer.passes[name] for layer in self.layers for name in wanted if name in layer.passes]


def _ratio(dense: float, sparse: float) -> float:
    if sparse > 0:
        return dense / sparse
    return 1.0 if dense == 0 else float("inf")


def estimate(
    work: Work,
    masks: Mapping[str, Tensor],
    machine: Accelerator | None = None,
    *,
    activations: Mapping[str, float | Tensor] | None = None,
) -> AcceleratorEstimate:
    """Estimate the time of a sparse training step on an accelerator, as SWAT computes it.

    The forward pass and the input gradient skip masked weights, the weight gradient skips activations; the other
    operand of each is dense. Convolutions and linear layers only: normalisation, activation functions, the search for
    thresholds and the optimizer's step are not in it.

    Args:
        work: the model's layers, measured with one sample; the machine says how many make a batch.
        masks: by layer path, a bool mask of the weight's shape; other layers are dense.
        machine: the accelerator; None is the default one.
        activations: by layer path, the fraction of a layer's inputs that the weight gradient reads, taken to lie
            anywhere with equal chance; or a bool mask of (N, C, ...) that says where they lie. Others are dense.

    Raises:
        CostError: a mask does not fit its layer, or a name is of no layer.
    """
    machine = Accelerator() if machine is None else machine
    read = activations or {}
    known = {layer.name for layer in work.layers}
    for name in (*masks, *read):
        if name not in known:
            raise CostError(f"The model has no layer '{name}' that runs. It has {', '.join(sorted(known))}.")
    return AcceleratorEstimate(
        machine,
        tuple(_layer(layer, masks.get(layer.name), read.get(layer.name, 1.0), machine) for layer in work.layers),
    )


def _layer(layer: Layer, mask: Tensor | None, read: float | Tensor, machine: Accelerator) -> LayerEstimate:
    density, busy = _activations(layer, read, machine)
    value = machine.value_bits / 8
    x, y, w = layer.inputs * machine.batch * value, layer.outputs * machine.batch * value, layer.weights * value
    saved = scattered_bits(layer.inputs * machine.batch, density, machine) / 8
    kept = w if mask is None else mask_bits(_filters(layer, mask), machine) / 8
    forward, backward = _weights(layer, mask, machine)
    macs = layer.macs * machine.batch
    # Sparse activations are written once more, beside the dense output that the next layer reads.
    again = saved if density < 1 else 0.0
    share = 1.0 if mask is None else float(mask.double().mean())
    passes = {
        "forward": PassCost(macs, macs * share, macs * forward, x + w + y, x + kept + y + again),
        "input gradient": PassCost(macs, macs * share, macs * backward, y + w + x, y + kept + x),
        "weight gradient": PassCost(macs, macs * density, macs * busy, x + y + w, saved + y + w),
    }
    if layer.stem and not machine.stem_input_gradient:
        del passes["input gradient"]
    return LayerEstimate(layer.name, passes)


def _weights(layer: Layer, mask: Tensor | None, machine: Accelerator) -> tuple[float, float]:
    """Return the busy fractions of the forward pass (a filter to a row) and the input gradient (a channel to a row)."""
    if mask is None:
        return 1.0, 1.0
    filters = _filters(layer, mask)
    k, c, p = filters.shape
    grouped = filters.reshape(layer.groups, k // layer.groups, c, p).transpose(1, 2)
    channels = grouped.reshape(layer.groups * c, k // layer.groups, p)
    forward, backward = (busy_fraction(it, machine.rows, machine.tile, machine.scan) for it in (filters, channels))
    return forward, backward


def _filters(layer: Layer, mask: Tensor) -> Tensor:
    """View a mask of the weight's shape as (filters, channels per filter, positions)."""
    if tuple(mask.shape) != layer.weight or not mask.numel():
        told = f"layer '{layer.name}' has a weight of {layer.weight} and a mask of {tuple(mask.shape)}"
        raise CostError(f"masks: {told}. Give a mask of the weight's shape.")
    a, b = mask.shape[:2]
    if not layer.transposed:
        return mask.bool().reshape(a, b, -1)
    g = layer.groups
    return mask.bool().reshape(g, a // g, b, -1).transpose(1, 2).reshape(g * b, a // g, -1)


def _activations(layer: Layer, read: float | Tensor, machine: Accelerator) -> tuple[float, float]:
    """Return the density of the activations that are read, and their busy fraction."""
    if isinstance(read, Tensor):
        if read.ndim < 2 or not read.numel():
            raise CostError(f"activations: of layer '{layer.name}' have shape {tuple(read.shape)}. Give (N, C, ...).")
        by_channel = read.bool().movedim(1, 0).flatten(1)
        units = by_channel.t() if machine.position_rows else by_channel
        busy = busy_fraction(units.unsqueeze(2), machine.rows, machine.tile, machine.scan)
        return float(read.bool().double().mean()), busy
    if isinstance(read, bool) or not 0 <= read <= 1:
        raise CostError(f"activations: layer '{layer.name}' is given {read!r}. Give the fraction read, from 0 to 1.")
    channels = _input_channels(layer)
    n_units = layer.inputs * machine.batch // channels if machine.position_rows else channels
    return read, expected_busy_fraction(read, n_units, machine.rows, machine.tile, machine.scan)


def _input_channels(layer: Layer) -> int:
    return layer.weight[0] if layer.transposed else layer.weight[1] * layer.groups


def mask_bits(mask: Tensor, machine: Accelerator) -> float:
    """Return the bits of a weight under a mask of (U, V, P), in the smallest form: its values and their index.

    Forms: all values; kept values with a bit for each position; with an offset for each value and a count for each
    tile; for whole kernels a bit for each kernel; and where every kernel keeps the same number an offset within the
    kernel for each value, with no count.
    """
    total, kept, size = mask.numel(), int(mask.sum()), mask.shape[2]
    values = kept * machine.value_bits
    forms: list[float] = [total * machine.value_bits, values + _index_bits(total, kept, machine)]
    in_kernel = mask.sum(-1)
    least, most = int(in_kernel.min()), int(in_kernel.max())
    if least == most:
        forms.append(values + kept * math.ceil(math.log2(size)))
    if bool(((in_kernel == 0) | (in_kernel == size)).all()):
        forms.append(values + total // size)
    return min(forms)


def scattered_bits(total: int, density: float, machine: Accelerator) -> float:
    """Return the bits of a tensor of `total` values that keeps a fraction of them anywhere, in the smallest form."""
    kept = total * density
    return min(total * machine.value_bits, kept * machine.value_bits + _index_bits(total, kept, machine))


def _index_bits(total: int, kept: float, machine: Accelerator) -> float:
    """Return the bits of a bitmask, or of an offset within the tile for each value and a count for each tile."""
    offset = math.ceil(math.log2(machine.tile + 1))
    return min(total, kept * offset + math.ceil(total / machine.tile) * offset)
