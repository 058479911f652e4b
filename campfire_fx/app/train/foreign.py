"""Checkpoints from elsewhere: the state_dict of a model, found in whatever a training script has saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from campfire_fx.base.disk.foreign import Inert, held_state
from campfire_fx.base.errors import TrainError

_USUAL = ("state_dict", "model_state_dict", "model", "state", "module", "network", "net", "weights", "params")
_WRAPPERS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""Names that torch.compile and others put between a module and what they wrap it in, wherever that is."""


def find_state(content: Mapping[str, Any], network: nn.Module, name: str) -> dict[str, Any]:
    """Return the state_dict of a network in a file's content: bare, or under any key, its names behind any prefix.

    So DistributedDataParallel's "module.", a LightningModule's "model." and torch.compile's "_orig_mod." are taken
    off, and what else a LightningModule holds is left out. Masks of torch.nn.utils.prune are applied.

    Raises:
        TrainError: several prefixes fit as well.
    """
    wanted = {key for key in network.state_dict() if not key.endswith(("num_batches_tracked", "_extra_state"))}
    own_names = {part for key in wanted for part in key.split(".")}
    found = [_unwrapped(state, own_names) for state in _states(content)]
    for state in found:
        prefixes = _prefixes(state, wanted)
        if "" in prefixes:
            return state
        if len(prefixes) > 1:
            places = " and ".join(f"'{prefix}'" for prefix in prefixes)
            raise TrainError(f"State of {name}: {places} fit it equally well as prefixes. Save one of them alone.")
        if prefixes:
            return {k.removeprefix(prefixes[0]): v for k, v in state.items() if k.startswith(prefixes[0])}
    return found[0] if found else {}


def _states(content: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield all that may be a state_dict, the usual places first: the content itself, and what lies in it."""
    if any(isinstance(value, Tensor) for value in content.values()):
        yield dict(content)
    for key in sorted(content, key=lambda key: _USUAL.index(key) if key in _USUAL else len(_USUAL)):
        value = content[key]
        if isinstance(value, Inert):
            value = dict(held_state(value))
        if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
            yield from _states(value)


def _unwrapped(state: Mapping[str, Any], own: set[str]) -> dict[str, Any]:
    wrappers = _WRAPPERS - own
    bare = {".".join(part for part in key.split(".") if part not in wrappers): value for key, value in state.items()}
    return _without_prune_masks(bare)


def _prefixes(state: Mapping[str, Any], wanted: set[str]) -> list[str]:
    """Return the prefixes behind which a state has all names that are wanted."""
    some = min(wanted, default="")
    ends = [key.removesuffix(some) for key in state if key.endswith(some)]
    tried = sorted({prefix for prefix in ends if not prefix or prefix.endswith(".")})
    return [prefix for prefix in tried if all(f"{prefix}{key}" in state for key in wanted)]


def _without_prune_masks(state: Mapping[str, Any]) -> dict[str, Any]:
    """Turn every pair X_orig, X_mask, as torch.nn.utils.prune leaves it, into X with zeros in it."""
    pruned = [key.removesuffix("_orig") for key in state if key.endswith("_orig")]
    pruned = [key for key in pruned if f"{key}_mask" in state]
    gone = {f"{key}{suffix}" for key in pruned for suffix in ("_orig", "_mask")}
    plain = {key: value for key, value in state.items() if key not in gone}
    return plain | {key: state[f"{key}_orig"] * state[f"{key}_mask"] for key in pruned}
