"""How a runtime's named inputs and flat list of outputs stand for the arguments and the result of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from campfire_fx.base.compat import pytree
from campfire_fx.export.program_file import is_structure


def fed(names: Sequence[str], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a call by the names of a file's inputs: positional ones in order, others by their name."""
    given = [leaf for leaf in pytree.tree_leaves(args) if isinstance(leaf, Tensor)]
    feeds = dict(zip(names, given, strict=False))
    rest = pytree.tree_leaves_with_path(kwargs)
    return feeds | {_joined(path): leaf for path, leaf in rest if isinstance(leaf, Tensor)}


def structure_of(text: str) -> Any:
    """Read the structure of the outputs that a file notes; None: there is none, or it could name classes to import."""
    return pytree.treespec_loads(text) if text and is_structure(text) else None


def restored(outputs: Sequence[Tensor], structure: Any) -> Any:
    """Return the outputs as the model did, where its structure is known: else the one, or a tuple of all."""
    if structure is not None and structure.num_leaves == len(outputs):
        return pytree.tree_unflatten(outputs, structure)
    return outputs[0] if len(outputs) == 1 else tuple(outputs)


def _joined(path: Any) -> str:
    return "_".join(str(getattr(key, "key", getattr(key, "idx", key))) for key in path)
