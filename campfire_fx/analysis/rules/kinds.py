"""The words that rows of the rule table are written in: what an operation is, and what is true of every call of it."""

from __future__ import annotations

from enum import Enum


class Kind(Enum):
    """What an operation does to channels. The value is for people; nothing compares it."""

    PASS = "element-wise, on one tensor"
    DROP = "dropout, which gives what it is given in evaluation"
    CAST = "another kind of numbers, or another device"
    ELEMENT_WISE = "element-wise, on several tensors"
    ADD = "sum"
    SUBTRACT = "difference"
    MULTIPLY = "product, number by number"
    DIVIDE = "quotient"
    GATE_HALVES = "product of two halves"
    PER_CHANNEL = "numbers of its own for each channel"
    NORMALISE = "normalisation along dimensions"
    SPACE = "pooling or resizing of space"
    REDUCE = "reduction along dimensions"
    PICK = "order, and places found in data"
    SAMPLE = "values from places that data gives"
    GRID = "places made of data"
    MOVE = "movement"
    IDENTITY = "the same numbers at the same places"
    PERMUTE = "movement of dimensions alone"
    CONCATENATE = "concatenation"
    SPLIT = "split into consecutive pieces"
    UNBIND = "split into single places"
    UNFLATTEN = "one dimension made several"
    SELECT = "one place along a dimension"
    INDEX = "indexing"
    PAD = "padding"
    ASK = "question"
    WRITE = "write into a part"
    GUARD = "nothing, but for an effect"
    MIX = "mixing by a weight"
    MATMUL = "mixing by a weight, or product of two activations"
    CONTRACT = "product of two activations"
    ATTEND = "attention"
    GATE_READ = "start of a gated branch"
    GATE_ADD = "end of a gated branch"
    SPREAD = "channels with zeros among them"
    BARRIER = "not understood"


MOVEMENTS = (Kind.MOVE, Kind.IDENTITY, Kind.PERMUTE, Kind.CONCATENATE, Kind.SPLIT, Kind.UNBIND, Kind.UNFLATTEN,
             Kind.SELECT, Kind.INDEX, Kind.PAD)  # fmt: skip
"""Movement of whole channels, which may be rewritten as an index."""
ARITHMETIC = (Kind.ADD, Kind.SUBTRACT, Kind.MULTIPLY, Kind.DIVIDE)
"""Element-wise on two operands, which give their kind of numbers to the result."""
ON_ONE = (Kind.PASS, Kind.DROP, Kind.PER_CHANNEL)
"""Each position of the result is made of the same position of one activation."""
POSITION_WISE = (*ON_ONE, Kind.CAST, Kind.ELEMENT_WISE, *ARITHMETIC)
"""Each position of the result is made of that position of the operands."""
PRODUCTS = (Kind.MATMUL, Kind.CONTRACT, Kind.ATTEND)
"""May be products of two activations."""
GATES = (Kind.GATE_READ, Kind.GATE_ADD)


class Transfer(Enum):
    """How a channel that is constant on the way in leaves an operation (its transfer function, in data-flow terms)."""

    EXECUTE = "run the operation on the constants, with NaN for what depends on the input"
    MAKE = "run the operation, whatever comes in: it puts numbers of its own there"
    KEEP = (
        "a uniform channel keeps its value (averages, maxima, resizing over space); where the row pads, only zero does"
    )
    TAINT = "unknown: every output counts as dependent on the input"
    POINTWISE = "run the operation; an output is unknown wherever an operand is (operations that swallow NaN)"
    EITHER = "each output is one of two operands, and data may decide which: known where both agree"
    AFFINE = "run the operation; where its scale is zero the output is its shift"
    PRODUCT = "run the operation; where a factor is zero the output is zero"
    MIX = "weights mix channels: decided kernel by kernel"


class Writes(Enum):
    """Which of its arguments a call changes, but for what it is given as `out`."""

    NOTHING = "none"
    FIRST = "the first, and returns it"
    OPTION = "the first, and returns it, if it is told so by its argument or attribute `inplace`"
    PART = "a part of the first, and returns nothing of it"


class Aliases(Enum):
    """Which arguments the result of a call that writes nothing may share memory with."""

    OWN = "none"
    SAME = "the first: it is that tensor under another name, or a view of all of it"
    VIEW = "perhaps with some"


class Shape(Enum):
    """What says the shape of the result."""

    FIRST = "it is that of the first argument"
    BROADCAST = "the operands given by their places, broadcast"
    JOINED = "the operands, put together along one dimension"
    OTHER = "whatever the operation does; it must be run to know"
