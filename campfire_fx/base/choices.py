"""The words that public functions take, as types: editors complete them, and type checkers know them."""

from __future__ import annotations

from typing import Literal

Residual = Literal["union", "gate"]
"""How `shrink` treats residual streams."""
Compensate = Literal["auto", "always", "never"]
"""Whether `shrink` takes constant channels out of norms that measure them."""
DeadNorm = Literal["zero", "keep"]
"""What `sparsify` does to the BatchNorm behind a filter that dies."""
MasksMove = Literal["before", "after"]
"""When masks move: before the first update of an epoch, or after it."""
CkScope = Literal["layer", "channel"]
"""Within what kernels are ranked."""
ChannelScope = Literal["global", "each set"]
"""Over what coupled channels are ranked."""
ScoreName = Literal[
    "flow", "l1", "l2", "norm_scale", "mean_scale", "largest", "fpgm", "taylor", "obd", "activation", "nonzeros",
    "rank", "entropy", "at_random",
]  # fmt: skip
"""How much a channel matters."""
RegimeName = Literal[
    "window", "ck", "combined", "inter-epoch", "fine-fc", "block-fc",
    "unstructured", "filter", "2:4", "1x4", "gradual-magnitude", "global-magnitude", "lamp", "deep-compression",
    "channel", "channel-combined", "l1-channels", "sfp", "fpgm", "taylor", "thinet", "lasso-channels", "pfa", "pfa-kl",
    "network-slimming", "sparse-structure", "ssl", "prune-train", "greg", "greg-2",
    "admm-filter", "admm-channel", "admm-column", "admm-kernel", "admm-unstructured", "admm-column-filter",
    "swat-u", "swat-erk", "swat-m", "swat-structured",
    "rigl", "srigl", "set", "dsr", "dsr-kernel", "deepr", "chase",
    "static-random", "snip", "grasp", "lottery-ticket", "sr-ste", "grouped",
]  # fmt: skip
"""The regimes by name; of N:M the one that GPUs have."""
