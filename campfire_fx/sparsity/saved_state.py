"""The saved form of a sparse training's state: JSON in a tensor; and what it is compared by when it is loaded.

A layer is saved with its method's name, version and numbers, with what its rule does (behaviour.py), and with its
schedule's numbers. Nothing in it depends on how functions or classes are called. Earlier versions saved the `repr` of
rule and method instead; those are still compared by it.
"""

from __future__ import annotations

import base64
import json
import math
import operator
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any, cast

import torch
from torch import Tensor

from campfire_fx.base.errors import RegimeError
from campfire_fx.sparsity import behaviour
from campfire_fx.sparsity.assignment import Assignment
from campfire_fx.sparsity.clock import Clock
from campfire_fx.sparsity.exchange import Exchanging
from campfire_fx.sparsity.gradual import Gradual
from campfire_fx.sparsity.layer import LayerState, monotone
from campfire_fx.sparsity.state import SparsityState

_FORMAT = 2
_BLOCK = 4096  # bytes; padding keeps the length of the saved form the same as the numbers in it change
_ROOM = 384  # bytes: more than the numbers of a layer, or of the clock, take
_WRAPPERS = {"module.": "DataParallel or DistributedDataParallel", "_orig_mod.": "torch.compile"}
_CLOCK = ("epoch", "step", "updates", "frozen", "late", "waiting")


def to_tensor(state: SparsityState) -> Tensor:
    """Return a state as JSON in a uint8 tensor: it fits every format that holds tensors."""
    known: dict[int, Any] = {}
    constant = {name: _described(layer.assignment, known) for name, layer in state.layers.items()}
    memory = {name: _as_text(tensor) for name, tensor in state.memory.items()}
    room = len(json.dumps(constant)) + len(json.dumps(memory)) + _ROOM * (len(constant) + 1)
    content: dict[str, Any] = {
        "format": _FORMAT,
        "regime": state.regime,
        "sparsity": state.sparsity,
        "clock": {name: getattr(state.clock, name) for name in _CLOCK},
        "layers": {name: constant[name] | _numbers(layer) for name, layer in state.layers.items()},
    }
    if memory:
        content["memory"] = memory
    content["crc32"] = zlib.crc32(json.dumps(content, sort_keys=True).encode())
    text = json.dumps(content, sort_keys=True).encode()
    return torch.frombuffer(bytearray(text.ljust(-(-room // _BLOCK) * _BLOCK)), dtype=torch.uint8).clone()


def load(state: SparsityState, tensor: object) -> None:
    """Take over a saved state, schedules included.

    Raises:
        RegimeError: it was saved by another regime or for other layers, or cannot be read; nothing is changed.
    """
    try:
        saved = _decode(tensor)
        _check(state, saved)
        clock = Clock(**saved["clock"], steps_per_epoch=state.clock.steps_per_epoch)
        layers = {name: _loaded(layer.assignment, saved["layers"][name]) for name, layer in state.layers.items()}
        sparsity = float(saved["sparsity"])
        memory = {name: _as_tensor(text) for name, text in saved.get("memory", {}).items()}
    except RegimeError:
        raise
    except Exception as error:  # whatever a spoilt record leads to
        raise RegimeError(
            "state_dict: the saved schedule in '_extra_state' cannot be read. "
            "Load the file that state_dict() of a sparse model gave, or leave that key out."
        ) from error
    state.clock, state.layers, state.sparsity, state.memory = clock, layers, sparsity, memory


def _as_text(tensor: Tensor) -> str:
    return base64.b64encode(tensor.detach().cpu().double().numpy().tobytes()).decode()


def _as_tensor(text: str) -> Tensor:
    """Undo `_as_text`: (size,) float64."""
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.float64).clone()


def _numbers(layer: LayerState) -> dict[str, Any]:
    values = {"reached": layer.reached, "by_hand": layer.by_hand, "numbers": layer.numbers}
    return values | {"sparsity": layer.assignment.sparsity, "schedule": asdict(cast(Any, layer.assignment.schedule))}


def _loaded(mine: Assignment, saved: Mapping[str, Any]) -> LayerState:
    schedule = replace(cast(Any, mine.schedule), **saved["schedule"])  # a frozen record of numbers
    assignment = replace(mine, sparsity=float(saved["sparsity"]), schedule=schedule)
    return LayerState(assignment, saved["reached"], bool(saved["by_hand"]), dict(saved["numbers"]))


def _described(assignment: Assignment, known: dict[int, Any]) -> dict[str, Any]:
    """Return what a layer is compared by; `known` holds what was found out of the same parts in others."""
    if assignment.rule is None:
        return {"shown": ""}
    if id(assignment.rule) not in known:
        known[id(assignment.rule)] = behaviour.of_rule(assignment.rule)
    if id(assignment.method) not in known:
        known[id(assignment.method)] = behaviour.of_method(assignment.method)
    found = {
        "shown": _shown(assignment),
        "rule": known[id(assignment.rule)],
        "method": known[id(assignment.method)],
        "due": behaviour.of_schedule(assignment.schedule),
    }
    return found if assignment.penalty is None else found | {"penalty": behaviour.of_method(assignment.penalty)}


def _shown(assignment: Assignment) -> str:
    """Return a layer's rule, schedule and method as errors show them, and as the first format compared them."""
    if assignment.rule is None:
        return ""
    method: object = assignment.method
    method = method.update if isinstance(method, Gradual) else method.how if isinstance(method, Exchanging) else method
    parts = [repr(assignment.rule), type(assignment.schedule).__name__]
    parts += [repr(part) for part in (method, assignment.penalty) if part not in (monotone, None)]
    return re.sub(r" at 0x[0-9a-fA-F]+", "", " ".join(parts))


def _check(state: SparsityState, saved: Mapping[str, Any]) -> None:
    if saved["regime"] != state.regime:
        raise RegimeError(
            f"state_dict: it was saved under regime '{saved['regime']}', this model has '{state.regime}'. "
            f"Build the model with sparsify(..., regime='{saved['regime']}')."
        )
    strange = set(saved["layers"]) ^ set(state.layers)
    if strange:
        raise RegimeError(
            f"state_dict at {min(strange)}: the layers it was saved for are not this model's. "
            "Load it into a model of the same architecture."
        )
    known: dict[int, Any] = {}
    for name, layer in saved["layers"].items():
        mine, shown = state.layers[name].assignment, layer["shown"]
        if not _fits(mine, layer, known):
            same = "the same, with another function" if shown == _shown(mine) else _shown(mine)
            raise RegimeError(
                f"state_dict at {name}: it was saved with the rule {shown or 'dense'}, this model has "
                f"{same or 'dense'}. Build the model with the settings it was saved with."
            )


def _fits(mine: Assignment, saved: Mapping[str, Any], known: dict[int, Any]) -> bool:
    if mine.rule is None or "rule" not in saved:
        return bool(saved["shown"] == _shown(mine))
    here = _described(_loaded(mine, saved).assignment, known)
    pairs = zip(here["due"], saved["due"], strict=True)
    alike = all(here.get(key) == saved.get(key) for key in ("rule", "method", "penalty"))
    return alike and all(math.isclose(one, other, abs_tol=2e-6) for one, other in pairs)


def _decode(tensor: object) -> dict[str, Any]:
    content = json.loads(bytes(cast(Tensor, tensor).to("cpu", torch.uint8).tolist()))
    checksum = content.pop("crc32", None)  # older ones have none
    if checksum is not None and checksum != zlib.crc32(json.dumps(content, sort_keys=True).encode()):
        raise ValueError("its checksum is wrong")
    if content.get("format") != _FORMAT:
        content = _from_first_format(content)
    for name in ("epoch", "step", "updates"):
        operator.index(content["clock"][name])
    return content


def _from_first_format(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was saved without a number of its format as it would be saved now, but for what its rules do."""
    later = {"updates": 0, "late": False, "waiting": False}  # what an older state_dict stands for
    layers = {
        name: {
            "shown": layer["rule"].replace("DenseMaster(", "DenseWeights("),
            "reached": content["reached"].get(name),
            "by_hand": name in content["own"],
            "numbers": content.get("iterates", {}).get(name, {}),
            "sparsity": layer["sparsity"],
            "schedule": layer["schedule"],
        }
        for name, layer in content["layers"].items()
    }
    clock = {name: content.get(name, later[name]) if name in later else content[name] for name in _CLOCK}
    return {"regime": content["regime"], "sparsity": content["sparsity"], "clock": clock, "layers": layers}


def check_names(given: Mapping[str, Any], own: Iterable[str]) -> None:
    """Raise a RegimeError if all names of a state_dict have the prefix of a wrapper, and none of the model's own."""
    names = tuple(own)
    for prefix, wrapper in _WRAPPERS.items():
        if given and all(name.startswith(prefix) for name in given) and not any(n.startswith(prefix) for n in names):
            raise RegimeError(
                f"load_state_dict: all names begin with '{prefix}', as {wrapper} writes them. Load the state_dict of"
                f" the model inside, or call torch.nn.modules.utils.consume_prefix_in_state_dict_if_present(state,"
                f" '{prefix}') first."
            )
