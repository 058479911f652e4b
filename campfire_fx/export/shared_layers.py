"""Layers without tensors that several modules share, as the one activation of all blocks: one for each of them instead.

A module that calls what belongs to another is no class of its own (`scopes.py`), and such a layer has nothing to share.
"""

from __future__ import annotations

import copy

from torch import fx, nn

from campfire_fx.export.scopes import caller, layer_targets


def give_each_its_own(module: fx.GraphModule) -> None:
    """Let every module call layers of its own, where they hold no tensors; the graph is changed in place."""
    layers = layer_targets(module.graph)
    for node in module.graph.nodes:
        home = ".".join(caller(node) or ()) if node.op == "call_module" else ""
        if not home or f"{node.target}.".startswith(f"{home}.") or any(f"{home}.".startswith(f"{n}.") for n in layers):
            continue
        layer = module.get_submodule(node.target)
        if not layer.state_dict():
            node.target = _placed(module, home, node.target, copy.deepcopy(layer))


def _placed(module: fx.GraphModule, home: str, target: str, layer: nn.Module) -> str:
    """Put a layer into a module under its own name, or a like one that is free; return where it is."""
    name = target.rpartition(".")[2]
    name = type(layer).__name__.lower() if name.isdecimal() else name
    there, number, free = dict(module.named_modules(remove_duplicate=False)), 1, f"{home}.{name}"
    while free in there and type(there[free]) is not type(layer):
        number += 1
        free = f"{home}.{name}{number}"
    if free not in there:
        module.add_submodule(free, layer)
    return free
