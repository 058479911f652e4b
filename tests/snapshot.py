"""Everything that a model is: modules, tensors, hooks, attributes, and what these hold, by identity and value."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

_PLAIN = (bool, int, float, complex, str, bytes, type(None))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a model was: a fact for each path (`layer.0._parameters['weight']`), and copies of the numbers.

    `held` keeps alive what identities speak of.
    """

    facts: dict[str, tuple[Any, ...]]
    values: dict[str, Tensor]
    held: list[Any]

    @staticmethod
    def of(model: nn.Module) -> Snapshot:
        """Walk through a model and all that it holds: containers, plain objects, tensors, their gradients."""
        shot = Snapshot({}, {}, [])
        seen: set[int] = set()
        pending: list[tuple[str, Any]] = [("", model)]
        while pending:
            path, value = pending.pop()
            shot.held.append(value)
            shot.facts[path] = _fact(value)
            if isinstance(value, Tensor) and value.device.type != "meta" and value.layout is torch.strided:
                shot.values[path] = value.detach().clone()
            if id(value) not in seen:
                seen.add(id(value))
                pending.extend((path + step, part) for step, part in _parts(value))
        return shot


def _fact(value: Any) -> tuple[Any, ...]:
    if isinstance(value, Tensor):
        memory = value.untyped_storage().data_ptr() if value.layout is torch.strided else 0
        shape = tuple(value.shape), value.dtype, value.device, value.stride() if value.layout is torch.strided else ()
        return id(value), type(value), *shape, memory, value.requires_grad, value.grad_fn, value.is_leaf
    if isinstance(value, _PLAIN):
        return type(value), value
    if isinstance(value, (list, tuple)):
        return id(value), type(value), len(value)
    if isinstance(value, dict):
        return id(value), type(value), tuple(value)
    return id(value), type(value), tuple(vars(value)) if hasattr(value, "__dict__") else ()


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Tensor):
        if value.is_leaf:
            yield ".grad", value.grad
    elif isinstance(value, nn.Module):
        for name, part in vars(value).items():
            if name in ("_parameters", "_buffers", "_modules"):
                yield f".{name}", ", ".join(part)
                yield from ((f".{key}", item) for key, item in part.items())
            else:
                yield f".{name}", part
    elif isinstance(value, dict):
        yield from ((f"[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, (list, tuple)):
        yield from ((f"[{number}]", part) for number, part in enumerate(value))
    elif hasattr(value, "__dict__") and not isinstance(value, type) and not type(value).__module__.startswith("torch"):
        yield from ((f".{name}", part) for name, part in vars(value).items())


def assert_untouched(model: nn.Module, snapshot: Snapshot) -> None:
    """A model is, to the bit, what it was when the snapshot was taken."""
    now = Snapshot.of(model)
    assert now.facts.keys() == snapshot.facts.keys(), f"{sorted(now.facts.keys() ^ snapshot.facts.keys())} came or went"
    for path, fact in snapshot.facts.items():
        assert now.facts[path] == fact, f"{path} was {fact}, now {now.facts[path]}"
    for path, value in snapshot.values.items():
        assert torch.equal(value.nan_to_num(), now.values[path].nan_to_num()), f"the numbers of {path} were changed"
