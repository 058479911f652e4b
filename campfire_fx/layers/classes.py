"""Another class for a module that exists: how layers gain and lose masks, dense weights and packed storage.

The module stays the same object, with its tensors, hooks and mode. So everything that leads to it leads to what it has
become: every path, every graph, Python code that no graph could take in, and FSDP2, DistributedDataParallel,
torch.compile and optimizers, in the middle of a training too. A module put in its place would be seen by paths alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

_OF_A_CLASS = ("__dict__", "__weakref__")


def change_class(module: nn.Module, table: Mapping[Any, type[nn.Module]]) -> None:
    """Give a module the class that a table has for its own.

    Where FSDP2 has made a class over one of the table, it becomes one over what the table has for that.

    Raises:
        KeyError: the table knows neither the class nor one of its bases.
    """
    cls: Any = type(module)
    if cls not in table and not any(base in table for base in cls.__bases__):
        raise KeyError(cls)
    module.__class__ = table.get(cls) or _rebased(cls, table)


def _rebased(cls: type[Any], table: Mapping[Any, type[nn.Module]]) -> type[Any]:
    bases = tuple(table.get(base, base) for base in cls.__bases__)
    return type(cls.__name__, bases, {name: value for name, value in vars(cls).items() if name not in _OF_A_CLASS})
