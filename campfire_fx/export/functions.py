"""autograd.Functions of the user's, as the operations that their forward runs: a file for inference has no backward."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn

from campfire_fx.analysis.function_call import FunctionCall

_NO_SETUP = torch.autograd.Function.setup_context


class _Context(nn.Module):
    """Stands for the `ctx` of a forward: takes what is kept for the backward, and keeps nothing."""

    needs_input_grad = ()

    def save_for_backward(self, *tensors: Any) -> None:
        """Take tensors."""

    save_for_forward = mark_dirty = mark_non_differentiable = save_for_backward

    def set_materialize_grads(self, value: bool) -> None:
        """Take a wish."""


def write_out_functions(graph: fx.Graph) -> None:
    """Put the operations of its forward in the place of every call of an autograd.Function, where it can be followed.

    A forward that asks for values, reads tensors of its own, or returns more than one, stays a call.
    """
    for node in list(graph.nodes):
        if node.op != "call_function" or not isinstance(node.target, FunctionCall) or node.kwargs:
            continue
        forward = _followed(node.target, node.args)
        if forward is not None:
            _put_in(graph, node, forward)


def _followed(call: FunctionCall, args: tuple[Any, ...]) -> fx.Graph | None:
    """Return the forward as a graph with a placeholder for each argument, or None."""
    tracer = fx.Tracer()
    tracer.root, tracer.graph = nn.Module(), fx.Graph(tracer_cls=fx.Tracer)
    given = [
        tracer.create_proxy("placeholder", f"x{place}", (), {}) if isinstance(arg, fx.Node) else arg
        for place, arg in enumerate(args)
    ]
    if any(isinstance(arg, (tuple, list, dict)) for arg in args):
        return None
    try:
        separate = call.function.setup_context is not _NO_SETUP
        result = call.function.forward(*given) if separate else call.function.forward(_Context(), *given)
    except Exception:  # noqa: BLE001  whatever it asks for, it cannot be followed
        return None
    if not isinstance(result, fx.Proxy) or any(node.op == "get_attr" for node in tracer.graph.nodes):
        return None
    tracer.create_node("output", "output", (tracer.create_arg(result),), {})
    return tracer.graph


def _put_in(graph: fx.Graph, call: fx.Node, forward: fx.Graph) -> None:
    """Copy the forward before the call, and let its result be read in the call's place."""
    inputs = iter([arg for arg in call.args if isinstance(arg, fx.Node)])
    values: dict[fx.Node, fx.Node] = {}
    with graph.inserting_before(call):
        for node in forward.nodes:
            if node.op == "placeholder":
                values[node] = next(inputs)
            elif node.op == "output":
                call.replace_all_uses_with(values[node.args[0]])
            else:
                values[node] = graph.node_copy(node, values.__getitem__)
                values[node].meta = dict(call.meta)
    graph.erase_node(call)
