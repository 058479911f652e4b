"""Which layers of an .mnn file skip their zeros: MNN's converter is asked for it, and layers that would lose are left.

MNN has a sparse form of convolutions (and of linear layers, which it makes convolutions): it skips blocks of four
filters by one weight of each, or single weights. Its converter takes it wherever 30 % of the blocks, or 60 % of the
weights, are zero, which is often slower than its dense form. A layer whose note says that none of its weights is zero
is computed densely; so the notes of the layers that would lose are overwritten.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from campfire_fx.export.onnx_file import required

BLOCKS = (4, 1)
"""The filters in a block that MNN skips, in the order in which they are tried."""

_PAYS: dict[str, dict[int, float]] = {
    "winograd": {4: 0.75, 1: 0.87},  # 3x3 of stride 1, whose dense form is fast
    "large": {4: 0.95, 1: 0.97},  # other windows of stride 1, whose sparse form is slow
    "other": {4: 0.35, 1: 0.65},  # 1x1, linear layers, strides
}
"""Share of zeros from which the sparse form is faster, by kind of layer and size of block.

Measured with MNN 3.6 on one thread of a CPU with AVX-512, on layers of 64 to 1024 channels at 7 to 112 pixels.
"""

# Fields of the tables in MNN's schema of files, which only grows: a place never gets another meaning.
_NET_OPERATIONS, _OPERATION_KIND, _OPERATION_MAIN, _CONVOLUTION = 3, 1, 2, 9
_COMMON, _SPARSE, _SPARSE_NOTES, _NOTE_NUMBER, _NOTE_NAME = 0, 5, 1, 1, 3
_KERNEL_X, _KERNEL_Y, _STRIDE_X, _STRIDE_Y, _DILATION_X, _DILATION_Y = 2, 3, 4, 5, 6, 7
_GROUPS, _OUTPUTS, _INPUTS = 9, 10, 11


@dataclass(frozen=True, slots=True)
class Skipping:
    """How many layers of a file skip zeros, and how many more could."""

    layers: int
    left: int


def parameters(block: int) -> bytes:
    """Return the file by which the converter is told the size of blocks: a protobuf `Pipeline` of one `PRUNE` step."""

    def field(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    simd_oc = bytes([4 << 3, block])  # SIMDOCPrunerParams.oc_blocks
    pruning = bytes([1 << 3, 1]) + field(3, simd_oc)  # PruneParams of type SIMD_OC
    return field(1, b"0.0.0") + field(2, bytes([1 << 3, 1]) + field(3, pruning))


def settle(content: bytearray) -> Skipping:
    """Leave those layers of a file dense whose zeros are too few to pay; the file is changed in place."""
    skipping = left = 0
    for layer in _layers(content):
        if layer.zeros < _PAYS[layer.kind][layer.block]:
            struct.pack_into("<i", content, layer.place, layer.weights)
            left += 1
        else:
            skipping += 1
    return Skipping(skipping, left)


@dataclass(frozen=True, slots=True)
class _Layer:
    """A layer that could skip zeros. `place`: where its number of weights that are not zero stands in the file."""

    kind: str
    block: int
    weights: int
    zeros: float
    place: int


def _layers(content: bytearray) -> Iterator[_Layer]:
    root = _Table.root(content)
    for operation in root.tables(_NET_OPERATIONS):
        if operation.byte(_OPERATION_KIND) != _CONVOLUTION:
            continue
        convolution = operation.table(_OPERATION_MAIN)
        sparse, common = (convolution.table(place) if convolution else None for place in (_SPARSE, _COMMON))
        if sparse is None or common is None:
            continue
        notes = {note.text(_NOTE_NAME): note for note in sparse.tables(_SPARSE_NOTES)}
        place = notes["NNZElement"].at(_NOTE_NUMBER)
        if place is None:  # 0, which is not written: all of it is zero
            continue
        window = (common.number(_KERNEL_Y, 1), common.number(_KERNEL_X, 1))
        steps = [common.number(field, 1) for field in (_STRIDE_X, _STRIDE_Y, _DILATION_X, _DILATION_Y)]
        kernel = window[0] * window[1]
        inputs = common.number(_INPUTS, 0) // max(common.number(_GROUPS, 1), 1)
        weights = common.number(_OUTPUTS, 0) * inputs * kernel
        if weights == 0:
            continue
        kind = "other" if kernel == 1 or steps != [1] * 4 else "winograd" if window == (3, 3) else "large"
        block = notes["sparseBlockOC"].number(_NOTE_NUMBER, 0)
        zeros = 1 - notes["NNZElement"].number(_NOTE_NUMBER, 0) / weights
        yield _Layer(kind, block if block in BLOCKS else 1, weights, zeros, place)


class _Table:
    """A table of a flatbuffer; fields by their number in its schema."""

    def __init__(self, content: bytearray, place: int) -> None:
        self._table = required("flatbuffers.table", "mnn").Table(content, place)

    @classmethod
    def root(cls, content: bytearray) -> _Table:
        """Return the table that the whole file is."""
        return cls(content, struct.unpack_from("<I", content)[0])

    def at(self, field: int) -> int | None:
        """Return where a field stands; None: it has its default."""
        offset = self._table.Offset(4 + 2 * field)
        return self._table.Pos + offset if offset else None

    def number(self, field: int, default: int) -> int:
        """Return a number of 32 bits."""
        place = self.at(field)
        return default if place is None else struct.unpack_from("<i", self._table.Bytes, place)[0]

    def byte(self, field: int) -> int:
        """Return a number of 8 bits."""
        place = self.at(field)
        return 0 if place is None else self._table.Bytes[place]

    def text(self, field: int) -> str:
        """Return a text."""
        place = self.at(field)
        return "" if place is None else self._table.String(place).decode()

    def table(self, field: int) -> _Table | None:
        """Return a table that a field refers to."""
        place = self.at(field)
        return None if place is None else _Table(self._table.Bytes, self._table.Indirect(place))

    def tables(self, field: int) -> list[_Table]:
        """Return the tables of a vector."""
        offset: Any = self._table.Offset(4 + 2 * field)
        if not offset:
            return []
        start, count = self._table.Vector(offset), self._table.VectorLen(offset)
        return [_Table(self._table.Bytes, self._table.Indirect(start + 4 * number)) for number in range(count)]
