"""What each operation does to channels: the one table that names operations, a file per family."""

from campfire_fx.analysis.rules import (
    barriers,
    channelwise,
    complex_numbers,
    fake_quantisation,
    gates,
    matmul,
    mixing,
    movement,  # fmt: skip
    norms,
    picking,
    pointwise,
    pooling,
)
from campfire_fx.analysis.rules.kinds import Aliases, Kind, Shape, Transfer, Writes
from campfire_fx.analysis.rules.record import Call, Held, OpRule, known_class, lookup, register, table

__all__ = ["Aliases", "Call", "Held", "Kind", "OpRule", "Shape", "Transfer", "Writes", "barriers", "channelwise",
           "complex_numbers", "fake_quantisation", "gates", "known_class", "lookup", "matmul", "mixing", "movement",
           "norms", "picking", "pointwise", "pooling", "register", "table"]  # fmt: skip
