"""Insert masks: every convolution and linear layer that a captured graph calls becomes a masked one."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from campfire_fx.analysis.captured import Captured
from campfire_fx.analysis.facts import Facts
from campfire_fx.analysis.graph_run import GraphRun
from campfire_fx.analysis.rules import Transfer
from campfire_fx.base.compat import BATCH_NORM
from campfire_fx.layers.dual import DualGraphModule, graphs_of
from campfire_fx.layers.layout import layout_of
from campfire_fx.layers.masked import MaskedLayer, mask_layer, plain_class, why_not_masked
from campfire_fx.passes.runner import Result, graph_pass, nothing_decided
from campfire_fx.sparsity.prunable import PrunableLayer


@dataclass(frozen=True, slots=True)
class Norm:
    """A BatchNorm that sees nothing but the outputs of masked convolutions, and no one else sees those.

    Its channel k is dead when filter k of every convolution in `convolutions` (paths) is.
    """

    path: str
    convolutions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Insertion:
    """What was masked: layers in the model's order; norms that follow them; weights left out, (path, reason)."""

    layers: tuple[PrunableLayer, ...]
    norms: tuple[Norm, ...]
    unmasked: tuple[tuple[str, str], ...]


@graph_pass(requires=(nothing_decided,))
def insert_masks(facts: Facts) -> Result:
    """Mask the layers of a captured model; all masks keep everything at first. What was done: one `Insertion`.

    Modules stay the same objects under the same names (their class changes), so no node of a graph does.
    """
    captured = facts.captured
    calls = list(_calls(captured))
    called = {id(call.module) for call in calls}
    layers: list[PrunableLayer] = []
    unmasked: list[tuple[str, str]] = []
    owner: dict[int, str] = {}
    stems, heads = _stems(captured), _heads(captured)
    for path, module in captured.module.named_modules():
        if id(module) not in called or plain_class(module) is None:
            continue
        if reason := why_not_masked(module):
            unmasked.append((path, reason))
            continue
        layer = mask_layer(module)
        first = owner.setdefault(id(layer.weight), path)
        if first != path:
            unmasked.append((path, f"it shares the weight of {first}, and its mask"))
            continue
        layers.append(_facts(path, layer, stem=id(module) in stems, head=id(module) in heads))
    unmasked += [*_weights_read_elsewhere(captured), *_weights_not_traced(captured)]
    return Result(bool(layers), (Insertion(tuple(layers), tuple(_norms(calls)), tuple(unmasked)),))


def _facts(path: str, layer: MaskedLayer, *, stem: bool, head: bool) -> PrunableLayer:
    plain = plain_class(layer)
    assert plain is not None
    return PrunableLayer(
        name=path,
        operation=plain.__name__,
        kernel=layer.as_filters(layer.mask).shape[2],
        linear=_is_linear(layer),
        stem=stem,
        shape=tuple(layer.weight.shape),
        head=head,
        groups=layout_of(layer).groups,
    )


def _is_linear(layer: Any) -> bool:
    """Whether a layer with a mask has no image: then a kernel is one number."""
    return bool(layer.weight.ndim == 2)


@dataclass(frozen=True, slots=True, eq=False)
class _LayerCall:
    """One call of a module by a graph, and the modules (or None) behind its inputs and its readers."""

    path: str
    module: nn.Module
    sources: tuple[nn.Module | None, ...]
    readers: tuple[nn.Module | None, ...]


def _calls(captured: Captured) -> Iterator[_LayerCall]:
    paths = {id(module): path for path, module in captured.module.named_modules()}
    for island in captured.islands:
        for graph in graphs_of(island.module):
            for node in graph.nodes:
                module = _called(island.module, node)
                if module is not None:
                    sources = tuple(_called(island.module, source) for source in node.all_input_nodes)
                    readers = tuple(_called(island.module, reader) for reader in node.users)
                    yield _LayerCall(paths[id(module)], module, sources, readers)


def _called(root: nn.Module, node: fx.Node) -> nn.Module | None:
    return root.get_submodule(str(node.target)) if node.op == "call_module" else None


def _norms(calls: list[_LayerCall]) -> Iterator[Norm]:
    """Pair norms with convolutions; a module called several times must qualify in all of its calls."""
    layers = [call.module for call in calls if isinstance(call.module, MaskedLayer)]
    # Not linear layers: their outputs are the last axis, and a norm's channels the second.
    convolutions = {id(layer) for layer in layers if not _is_linear(layer)}
    for call in calls:
        if len(call.readers) != 1 or not isinstance(call.readers[0], BATCH_NORM):
            convolutions.discard(id(call.module))
    paths = {id(call.module): call.path for call in calls}
    sources: dict[int, list[nn.Module | None]] = {}
    for call in calls:
        if isinstance(call.module, BATCH_NORM):
            sources.setdefault(id(call.module), []).extend(call.sources)
    for norm, behind in sources.items():
        if all(source is not None and id(source) in convolutions for source in behind):
            yield Norm(paths[norm], tuple(dict.fromkeys(paths[id(source)] for source in behind)))


def _stems(captured: Captured) -> set[int]:
    """Ids of the convolutions that read the model's input: no layer with a weight comes before them.

    Of a model in islands only the first one is looked at; the others read what earlier ones computed.
    """
    stems: set[int] = set()
    if not captured.islands:
        return stems
    root = captured.islands[0].module
    weighted: set[fx.Node] = set()
    for node in (node for modes in root.graph_variants for node in modes.graph.nodes):
        module = _called(root, node)
        after = any(source in weighted for source in node.all_input_nodes)
        is_layer = module is not None and plain_class(module) is not None
        if is_layer and not after and not _is_linear(module):
            stems.add(id(module))
        if after or is_layer or _weight_read(root, node) is not None:
            weighted.add(node)
    return stems


def _heads(captured: Captured) -> set[int]:
    """Ids of the layers behind which no other with a weight comes on the way to the model's output.

    Of a model in islands only the last one is looked at; what others compute is read by later ones.
    """
    heads: set[int] = set()
    if not captured.islands:
        return heads
    root = captured.islands[-1].module
    ahead: set[fx.Node] = set()  # of them nothing with a weight comes
    for modes in root.graph_variants:
        for node in reversed(modes.graph.nodes):
            module = _called(root, node)
            if node.op != "output" and not any(user in ahead for user in node.users):
                continue
            if module is not None and plain_class(module) is not None:
                heads.add(id(module))
            elif _weight_read(root, node) is None:
                ahead.add(node)
    return heads


def _weight_read(root: nn.Module, node: fx.Node) -> nn.Parameter | None:
    """Return the parameter that a node reads, if it could be the weight of a layer."""
    if node.op != "get_attr":
        return None
    parameter = operator.attrgetter(str(node.target))(root)
    return parameter if isinstance(parameter, nn.Parameter) and parameter.dim() >= 2 else None


def _why_read(root: DualGraphModule, node: fx.Node) -> str:
    """Say what reads a parameter: a function, as its weight; or a computation of one."""
    run = GraphRun(0, root, node.graph, False, [])
    made, waiting = {node}, [node]
    while waiting:
        for user in waiting.pop().users:
            if user.op == "output" or user in made:
                continue
            if all(source in made or source.op == "get_attr" for source in user.all_input_nodes):
                made.add(user)
                waiting.append(user)
            elif run.rule(user).constant is Transfer.MIX and node not in user.all_input_nodes:
                return "a weight is computed from it, and zeros in it need not be zeros there"
    return "a function reads it, not a layer"


def _weights_read_elsewhere(captured: Captured) -> Iterator[tuple[str, str]]:
    """Weights that no masked layer holds: read by a function, or inside a module of another kind."""
    root = captured.module
    paths = {id(p): path for path, p in (*root.named_buffers(), *root.named_parameters())}
    seen = {id(module.weight) for module in captured.module.modules() if isinstance(module, MaskedLayer)}
    for island in captured.islands:
        for node in (node for modes in island.module.graph_variants for node in modes.graph.nodes):
            module, parameter = _called(island.module, node), _weight_read(island.module, node)
            found = [(parameter, _why_read(island.module, node))] if parameter is not None else []
            if module is not None and plain_class(module) is None:
                inside = (p for p in module.parameters() if p.dim() >= 2)
                found += [(p, f"it belongs to a {type(module).__name__}") for p in inside]
            for weight, reason in found:
                if id(weight) not in seen:
                    seen.add(id(weight))
                    yield paths.get(id(weight), str(node.target)), reason  # a layer may not be registered


def _weights_not_traced(captured: Captured) -> Iterator[tuple[str, str]]:
    """Parts that stayed Python, if a weight in them got no mask for it."""
    masked = {id(module.weight) for module in captured.module.modules() if isinstance(module, MaskedLayer)}
    for path, reason in captured.untraced:
        part = captured.module.get_submodule(path)
        if any(p.dim() >= 2 and id(p) not in masked for p in part.parameters()):
            yield path, reason
