"""What each operation does to channels: the one table that names operations, a file per family."""

from campfire_fx.analysis.rules import (
    barriers,
    channelwise,
    complex_numbers,
    fake_quantisation,
    gates,
    matmul,
    mixing,
    movement,
    norms,
    picking,
    pointwise,
    pooling,
)
from campfire_fx.analysis.rules.record import Call, Constant, Held, Rule, known_class, lookup, register, table

__all__ = [
    "Call",
    "Constant",
    "Held",
    "Rule",
    "barriers",
    "channelwise",
    "complex_numbers",
    "fake_quantisation",
    "gates",
    "known_class",
    "lookup",
    "matmul",
    "mixing",
    "movement",
    "norms",
    "picking",
    "pointwise",
    "pooling",
    "register",
    "table",
]
