"""Plain convolutions in the graphs, modules and functions alike: their settings read, and set anew."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from campfire_fx.analysis.edits.plan import set_argument
from campfire_fx.analysis.graph_run import GraphRun
from campfire_fx.analysis.labelling import Labelling
from campfire_fx.analysis.rules.structure import MixCall, Mixer
from campfire_fx.analysis.taps import Axis
from campfire_fx.base.compat import is_erased, pytree, set_padding_ahead

_POSITIONS = {"stride": 3, "padding": 4, "dilation": 5, "groups": 6}


@dataclass(frozen=True, slots=True)
class ConvolutionSettings:
    """How a plain convolution is called.

    Attributes:
        axes: per spatial axis kernel size, dilation and padding.
        stride: per spatial axis.
        groups: of the channels.
        mode: what is padded: "zeros", "reflect", "replicate" or "circular".
    """

    axes: tuple[Axis, ...]
    stride: tuple[int, ...]
    groups: int
    mode: str


@dataclass(frozen=True, slots=True, eq=False)
class PlainConvolution:
    """One weight, every call of it that is left in the graphs, and the settings that they share."""

    mixer: Mixer
    weight: Tensor
    sites: tuple[tuple[GraphRun, MixCall], ...]
    settings: ConvolutionSettings

    @property
    def modules(self) -> list[nn.Module]:
        """The modules that are called, each once."""
        return list(dict.fromkeys(call.module for _, call in self.sites if call.module is not None))

    def set(self, settings: ConvolutionSettings) -> None:
        """Let every call have other settings. Their padding must be even, see `taps`."""
        sizes = tuple(axis.size for axis in settings.axes)
        padding = tuple(axis.front for axis in settings.axes)
        dilation = tuple(axis.dilation for axis in settings.axes)
        for module in self.modules:
            values = {"kernel_size": sizes, "padding": padding, "dilation": dilation, "stride": settings.stride}
            for name, value in values.items():
                setattr(module, name, value)
            module.padding_mode = settings.mode  # type: ignore[assignment]
            set_padding_ahead(module, both_ends(padding))
        for _, call in self.sites:
            if call.module is None:
                for name, value in (("stride", settings.stride), ("padding", padding), ("dilation", dilation)):
                    set_argument(call.node, _POSITIONS[name], name, value)


def both_ends(padding: Sequence[int]) -> list[int]:
    """Return even padding as `F.pad` takes it: last axis first, each twice."""
    return [amount for amount in reversed(padding) for _ in range(2)]


def first_input(node: fx.Node) -> fx.Node:
    """Return the node that a call of a convolution reads."""
    source = node.args[0] if node.args else node.kwargs["input"]
    assert isinstance(source, fx.Node)
    return source


def is_plain(mixer: Mixer) -> bool:
    """Whether a weight is that of a convolution that is not transposed."""
    return mixer.weight.ndim > 2 and mixer.layout.out_axis == 0


class Convolutions:
    """Finds the plain convolutions of a model: what its graphs read beside their calls is looked up once."""

    def __init__(self, labelling: Labelling) -> None:
        self._labelling = labelling

    def read(self, mixer: Mixer, weight: Tensor) -> PlainConvolution | str:
        """Return a plain convolution with what its calls have in common, or in words why it must be left alone.

        Args:
            mixer: whose weight was that of a plain convolution when the graphs were labelled.
            weight: what it is now.
        """
        sites = tuple((self._labelling.runs[c.graph], c) for c in mixer.calls if not is_erased(c.node))
        known = {call.node for _, call in sites}
        if id(mixer.weight) in self._labelling.structure.tensors or not known >= self._users.get(id(weight), set()):
            return "its weight is also read elsewhere"
        found = [_settings(call, weight) for _, call in sites]
        known_settings = [settings for settings in found if settings is not None]
        if not found or len(known_settings) < len(found):
            return "its settings are computed"
        if any(settings != known_settings[0] for settings in known_settings):
            return "it is called with different settings"
        return PlainConvolution(mixer, weight, sites, known_settings[0])

    def reads_by_name(self, key: int) -> bool:
        """Whether a graph reads a tensor by its name, given its id, and not through the module that holds it."""
        return bool(self._users.get(key))

    @functools.cached_property
    def _users(self) -> dict[int, set[fx.Node]]:
        """The nodes that read each tensor by its name, by the id of the tensor."""
        users: dict[int, set[fx.Node]] = {}
        for run in self._labelling.runs:
            for node in run.graph.find_nodes(op="get_attr"):
                tensor = functools.reduce(getattr, str(node.target).split("."), run.module)
                users.setdefault(id(tensor), set()).update(node.users)
        return users


def settings_of(layer: nn.Module) -> ConvolutionSettings:
    """Return the settings of a plain convolution of torch's."""
    return _as_settings(_of_module(layer), layer.weight)  # type: ignore[arg-type]


def _settings(call: MixCall, weight: Tensor) -> ConvolutionSettings | None:
    """Read the settings of one call; None where the graph computes them."""
    given = _of_module(call.module) if call.module is not None else _of_function(call.node)
    computed = any(isinstance(value, fx.Node) for value in pytree.tree_leaves(given))
    return None if computed else _as_settings(given, weight)


def _as_settings(given: dict[str, Any], weight: Tensor) -> ConvolutionSettings:
    sizes = tuple(weight.shape[2:])
    stride, dilation = _each(given["stride"], len(sizes)), _each(given["dilation"], len(sizes))
    pads = [(size - 1) * apart for size, apart in zip(sizes, dilation, strict=True)]
    if given["padding"] == "same":
        ends = [(pad // 2, pad - pad // 2) for pad in pads]
    elif given["padding"] == "valid":
        ends = [(0, 0) for _ in pads]
    else:
        ends = [(pad, pad) for pad in _each(given["padding"], len(sizes))]
    axes = tuple(Axis(size, apart, *end) for size, apart, end in zip(sizes, dilation, ends, strict=True))
    return ConvolutionSettings(axes, stride, given["groups"], given["mode"])


def _of_module(module: Any) -> dict[str, Any]:
    return {**{name: getattr(module, name) for name in _POSITIONS}, "mode": module.padding_mode}


def _of_function(node: fx.Node) -> dict[str, Any]:
    known = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "mode": "zeros"}
    known |= {name: node.args[place] for name, place in _POSITIONS.items() if place < len(node.args)}
    return known | {name: value for name, value in node.kwargs.items() if name in _POSITIONS}


def _each(value: Any, count: int) -> tuple[int, ...]:
    """Return one number per axis of what is given as one, or as a list of one or of one per axis."""
    values = tuple(value) if isinstance(value, Iterable) else (value,)
    return values * count if len(values) == 1 else values
