"""Whose memory a result lies in: its own, or that of what the operation was given."""

from __future__ import annotations

from enum import Enum

from torch import fx, nn

from campfire_fx.analysis.rules.record import Rule


class Sharing(Enum):
    """How the result of an operation may lie in memory."""

    OWN = "in memory of its own"
    SAME = "the tensor that was given, under another name"
    VIEW = "perhaps in the memory of a tensor that was given"


# These return the numbers that they are given, in evaluation perhaps the tensor itself.
SAME = ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout", "Identity", "dropout",
         "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout", "stochastic_depth", "to",
         "type", "type_as", "float", "double", "half", "bfloat16", "cpu", "cuda", "contiguous", "detach", "positive",
         "pos", "requires_grad_")  # fmt: skip
# These too may return their input itself, if it is of that kind.
_KINDS = ("bool", "int", "long", "short", "char", "byte")
# Movements that always copy.
_COPIES = ("cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack", "column_stack", "pad", "clone",
           "repeat", "tile", "index_select", "roll", "flip", "repeat_interleave", "gather", "take_along_dim",
           "narrow_copy")  # fmt: skip
_VIEWS = ("expand_as", "real", "imag", "conj", "resolve_conj", "interpolate", "upsample", "Upsample", "gate_read")


def sharing(node: fx.Node, module: nn.Module | None, rule: Rule) -> Sharing:
    """Return how the result of a call may lie in memory; of an operation without a rule nothing is known."""
    name = type(module).__name__ if module is not None else getattr(node.target, "__name__", str(node.target))
    if name in SAME or name in _KINDS:
        return Sharing.SAME
    if rule.movement:
        return Sharing.OWN if name in _COPIES else Sharing.VIEW
    if rule.name == "barrier" or node.target is getattr or name in _VIEWS:
        return Sharing.VIEW
    return Sharing.OWN
