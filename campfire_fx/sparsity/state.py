"""The state of a sparse training: its clock, and what every layer is asked for and has reached."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from torch import Tensor

from campfire_fx.sparsity.assignment import Assignment
from campfire_fx.sparsity.channels.coupling import Coupling
from campfire_fx.sparsity.clock import Clock
from campfire_fx.sparsity.layer import LayerState
from campfire_fx.sparsity.method import Method


@dataclass(slots=True)
class SparsityState:
    """What a sparse training knows beyond weights and masks; saved in the `state_dict` (saved_state.py).

    Attributes:
        regime: its name.
        sparsity: the final sparsity asked for, as reports give it.
        layers: how far each layer has come, by path.
        clock: how far the training has.
        coupling: the coupled channels, where a method removes them; not saved, since the model says them.
        memory: tensors that methods remember of all layers together, by name.
    """

    regime: str
    sparsity: float
    layers: dict[str, LayerState]
    clock: Clock = field(default_factory=Clock)
    coupling: Coupling | None = None
    memory: dict[str, Tensor] = field(default_factory=dict)

    def copy(self) -> SparsityState:
        """Return a state that goes its own way from here."""
        layers = {name: replace(layer, numbers=dict(layer.numbers)) for name, layer in self.layers.items()}
        return replace(self, layers=layers, clock=replace(self.clock), memory=dict(self.memory))

    @property
    def ruled(self) -> dict[str, LayerState]:
        """The layers that a rule prunes."""
        return {name: layer for name, layer in self.layers.items() if layer.assignment.rule is not None}

    def methods(self) -> list[tuple[Method, list[str]]]:
        """Return the methods, penalties among them, each with the paths of its layers."""
        found: list[tuple[Method, list[str]]] = []
        for name, layer in self.ruled.items():
            for method in (layer.assignment.method, layer.assignment.penalty):
                if method is None:
                    continue
                names = next((names for known, names in found if known is method or known == method), None)
                if names is None:
                    found.append((method, names := []))
                names.append(name)
        return found

    @property
    def goes_on_smaller(self) -> bool:
        """Whether masks that still move can move on in a smaller model, made in the middle of the training."""
        methods = {type(method): method for method, _ in self.methods()}.values()
        return bool(methods) and all(method.goes_on_smaller for method in methods)

    def training_masked(self) -> Iterator[Assignment]:
        """Yield what the layers are asked for that still train the weights under their masks."""
        for layer in self.ruled.values():
            if layer.assignment.method.trains_masked and not layer.by_hand and not self.clock.frozen:
                yield layer.assignment
