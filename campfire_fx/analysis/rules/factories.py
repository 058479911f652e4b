"""What makes tensors from nothing, functions of plain numbers, and what takes tensors out of a graph or elsewhere."""

from __future__ import annotations

import builtins
import math
import operator
from typing import Any

import torch

from campfire_fx.analysis.rules.conventions import IN_PLACE, ITEMS

FACTORIES: frozenset[Any] = frozenset(
    getattr(torch, name)
    for name in (
        "arange bartlett_window blackman_window empty eye full hamming_window hann_window linspace logspace ones rand "
        "as_tensor randint randn randperm range tensor tril_indices triu_indices zeros"
    ).split()
)
"""Functions that make tensors from nothing."""
INTERCEPTED = (*FACTORIES, torch.normal)
"""What becomes a node also where it is given no activation."""
FILLED: dict[Any, int | None] = {
    torch.full: 1, torch.zeros: None, torch.ones: None, "new_full": 2, "new_zeros": None, "new_ones": None,
}  # fmt: skip
"""What is one number all over, however large: the place of that number among the arguments."""
READS_DATA = (float, int, bool, complex, "item", "tolist")
"""What asks a tensor for its numbers."""
MOVES_DEVICE = ("cpu", "cuda", "xpu", "pin_memory")
"""Methods that give the same tensor on another device."""
OF_LISTS = (max, min, sum, math.prod)
"""Functions that take a list of numbers too."""
ARITHMETIC: frozenset[Any] = frozenset(
    {getattr(operator, name) for name in "add sub mul truediv floordiv mod pow neg pos abs eq ne lt le gt ge".split()}
    | {getattr(operator, name) for name in "and_ or_ xor not_ is_ is_not lshift rshift index".split()}
    | {getattr(builtins, name) for name in "int float max min round pow abs divmod sum".split()}
    | {getattr(math, name) for name in "ceil floor trunc sqrt gcd log log2 isqrt prod".split()}
)
"""Functions of numbers, which give a number."""
PURE: frozenset[Any] = ARITHMETIC | {
    value for place in (operator, math) for name, value in vars(place).items() if callable(value) and name[0] != "_"
} - {*IN_PLACE, *ITEMS}
"""Functions of Python's that change nothing."""
