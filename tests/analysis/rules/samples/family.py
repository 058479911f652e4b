"""How samples are written down: one call for many targets, or several calls for one."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

import torch
from torch import Tensor

from tests.analysis.rules.alone import Sample

Samples = dict[Hashable, list[Sample]]


def add(samples: Samples, targets: Iterable[Any], *calls: Sample) -> None:
    """Enter calls for every one of some targets."""
    for target in targets:
        samples.setdefault(target, []).extend(calls)


def classes(samples: Samples, *kinds: Any, **facts: Any) -> None:
    """Enter a call of each class of modules, made without arguments or by a function `(class, maker)`."""
    for kind in kinds:
        target, maker = kind if isinstance(kind, tuple) else (kind, kind)
        add(samples, [target], Sample(module=maker, **facts))


def both(*names: str) -> list[Any]:
    """Return torch's function and the tensor's method of each name, whichever exist."""
    functions = [getattr(torch, name) for name in names if callable(getattr(torch, name, None))]
    return [*dict.fromkeys(functions), *(name for name in names if hasattr(Tensor, name))]
