"""What graphs use of a module, and the module without the rest."""

from __future__ import annotations

from collections.abc import Iterable

from torch import fx, nn

from campfire_fx.base.compat import buffers_of, parameters_of
from campfire_fx.base.torch_classes import is_torchs_own


def keep_only(root: nn.Module, keep: Iterable[str]) -> bool:
    """Delete submodules, parameters and buffers that no path in `keep` leads to or through; return whether any was."""
    wanted = set(keep)
    prefixes = {path[:i] for path in wanted for i in range(len(path)) if path[i] == "."} | wanted
    return _prune(root, "", wanted, prefixes)


def _prune(module: nn.Module, path: str, wanted: set[str], prefixes: set[str]) -> bool:
    tensors = {**parameters_of(module), **buffers_of(module)}
    gone = [name for name, tensor in tensors.items() if tensor is not None and f"{path}{name}" not in wanted]
    pruned = False
    for name, child in list(module.named_children()):
        full = f"{path}{name}"
        if full in wanted:
            continue
        if full in prefixes:
            pruned |= _prune(child, f"{full}.", wanted, prefixes)
        else:
            gone.append(name)
    prints = is_torchs_own(module)  # torch's layers say whether they have a bias
    for name in gone:
        if prints and name in tensors:
            setattr(module, name, None)
        else:
            delattr(module, name)
    return pruned or bool(gone)


def used_paths(graphs: Iterable[fx.Graph]) -> set[str]:
    """Return the paths of all modules and tensors that graphs use."""
    return {str(n.target) for graph in graphs for n in graph.nodes if n.op in ("call_module", "get_attr")}
