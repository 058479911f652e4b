"""What is private in torch and in Python, and needed all the same: each thing once, and what for.

Public names are used wherever there is one. `PRIVATE` lists the rest, for the test that says in a sentence what is
missing when a new version drops one. All of it is in torch 2.11 and in Python 3.10.
"""

from __future__ import annotations

import functools
import random
import sys
from collections.abc import Collection, MutableMapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.amp import autocast_mode
from torch.fx import graph as fx_graph
from torch.fx import node as fx_node
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["PRIVATE", "TorchDispatchMode", "pytree"]

PRIVATE: dict[str, str] = {
    "torch.utils._pytree": "walks nested lists, dicts and the containers that others have registered",
    "torch.utils._python_dispatch.TorchDispatchMode": "sees every operation that torch runs",
    "torch._subclasses.fake_tensor.FakeTensorMode": "counts operations without doing them",
    "torch.nn.Module()._parameters": "edits tables of tensors without the checks of assignment, None entries included",
    "torch.nn.Module()._buffers": "the same for buffers",
    "torch.nn.Module()._modules": "the same for submodules",
    "torch.nn.Module()._non_persistent_buffers_set": "knows which buffers a state_dict leaves out",
    "torch.nn.Module()._forward_hooks": "knows whether a call gives more than forward() says",
    "torch.nn.Module()._forward_pre_hooks": "the same before the call; the old weight_norm is such a hook",
    "torch.nn.Module._version": "keeps the version of a module's layout in its state_dict",
    "torch.nn.Module._load_from_state_dict": "overridden: masked layers take dense weights over",
    "torch.nn.Module._save_to_state_dict": "overridden: masked layers write the weights that count",
    "torch.nn.Conv2d(1, 1, 1)._reversed_padding_repeated_twice": "the padding that a convolution does not do itself",
    "torch.nn.ConvTranspose2d._output_padding": "the size that a transposed convolution is asked for",
    "torch.nn.InstanceNorm2d._get_no_batch_dim": "knows whether an input has a batch axis",
    "torch.nn.modules.module._IncompatibleKeys": "what load_state_dict returns, by name in a signature",
    "torch.nn.modules.batchnorm._BatchNorm": "every BatchNorm, the lazy and the synchronised one too",
    "torch.nn.modules.conv._ConvNd": "every convolution",
    "torch.nn.modules.conv._ConvTransposeNd": "every transposed convolution",
    "torch.nn.modules.instancenorm._InstanceNorm": "every instance norm",
    "torch.nn.modules.padding._ConstantPadNd": "every padding with a constant",
    "torch.Tensor._version": "tells that a tensor was written to",
    "torch.empty(0).untyped_storage()._cdata": "the key under which deepcopy remembers memory",
    "torch._assert": "a check that stays in a graph",
    "torch._foreach_add_": "one kernel for the weights of all layers",
    "torch._foreach_mul_": "the same",
    "torch._foreach_sub": "the same",
    "torch._C._set_grad_enabled": "the grad mode as a node of a graph",
    "torch._C._nn.pad": "what F.pad is in graphs of torch.export",
    "torch._C.ScriptMethod": "methods of TorchScript modules",
    "torch._ops.OpOverload": "operations as graphs of torch.export name them",
    "torch._ops.OpOverloadPacket": "the same, all overloads of a name",
    "torch.ops.aten.relu.default._schema": "names the arguments of an operation",
    "torch.ops.aten.relu.default._overloadpacket": "the operation that an overload belongs to",
    "torch.ops.aten._to_copy": "what moves a tensor to another dtype or device",
    "torch.ops.aten._unsafe_view": "a view that costs nothing",
    "torch.amp.autocast_mode._enter_autocast": "autocast as nodes of a graph",
    "torch.amp.autocast_mode._exit_autocast": "the same, its end",
    "torch.autocast('cpu')._enabled": "the settings of an autocast that the model's code enters",
    "torch.autocast('cpu')._cache_enabled": "the same",
    "torch.fx.symbolic_trace(torch.nn.Identity())._wrapped_call": "what calling a graph module does",
    "torch.fx.Graph()._codegen": "knows graphs that torch.export flattens inputs for",
    "torch.fx.Node._erased": "knows nodes that an edit has taken out",
    "torch.fx.graph._format_target": "lets graphs name submodules that are no Python names",
    "torch.fx._symbolic_trace._wrapped_fns_to_patch": "what torch.fx.wrap was told",
    "torch.compile(torch.nn.Identity())._orig_mod": "the model inside what torch.compile returns",
    "torch.jit.is_tracing": "tells that torch.jit.trace is at work; public, but not exported by torch.jit",
    "sys._getframe": "which line of the user's code is running",
    "random._inst": "Python's own generator of random numbers",
    "functools._lru_cache_wrapper": "functions that remember results, which tracing must not",
}
"""Expression -> what for."""

BATCH_NORM = nn.modules.batchnorm._BatchNorm
INSTANCE_NORM = nn.modules.instancenorm._InstanceNorm
CONVOLUTION = nn.modules.conv._ConvNd
TRANSPOSED_CONVOLUTION = nn.modules.conv._ConvTransposeNd
CONSTANT_PADDING = nn.modules.padding._ConstantPadNd
"""Classes that torch's modules of a kind are derived from."""

IncompatibleKeys = nn.modules.module._IncompatibleKeys
assertion = torch._assert
foreach_add_, foreach_mul_, foreach_sub = torch._foreach_add_, torch._foreach_mul_, torch._foreach_sub
set_grad_enabled = torch._C._set_grad_enabled
exported_pad = torch._C._nn.pad
ScriptMethod = torch._C.ScriptMethod
OpOverload, OpOverloadPacket = torch._ops.OpOverload, torch._ops.OpOverloadPacket
enter_autocast, exit_autocast = autocast_mode._enter_autocast, autocast_mode._exit_autocast
to_copy, unsafe_view = torch.ops.aten._to_copy, torch.ops.aten._unsafe_view
CachedFunction = functools._lru_cache_wrapper
format_target = fx_graph._format_target
stack_frame = sys._getframe
"""`stack_frame(1)`: the frame of the code that called."""

TABLES = ("_parameters", "_buffers", "_modules")
"""Attributes in which a module holds what its own __getattr__ finds."""
UNSAVED = "_non_persistent_buffers_set"


def parameters_of(module: nn.Module) -> MutableMapping[str, nn.Parameter | None]:
    """Return the table of a module's own parameters; a change of it is one of the module."""
    return module._parameters


def buffers_of(module: nn.Module) -> MutableMapping[str, Tensor | None]:
    """Return the table of a module's own buffers."""
    return module._buffers


def children_of(module: nn.Module) -> MutableMapping[str, nn.Module | None]:
    """Return the table of a module's children."""
    return module._modules


def unsaved_buffers(module: nn.Module) -> set[str]:
    """Return the names of the buffers that no state_dict holds."""
    return module._non_persistent_buffers_set


def layout_version(module: nn.Module) -> int:
    """Return the version of the layout that state_dict() writes for a module."""
    return module._version


def has_hooks(module: nn.Module) -> bool:
    """Return whether hooks run before or after a module's forward."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def hooks_before(module: nn.Module) -> list[Any]:
    """Return the hooks that run before a module's forward."""
    return list(module._forward_pre_hooks.values())


def padding_ahead(module: Any) -> list[int]:
    """Return the padding, as F.pad takes it, that a convolution puts around its input before it convolves."""
    return module._reversed_padding_repeated_twice


def set_padding_ahead(module: nn.Module, padding: list[int]) -> None:
    """Give a convolution another padding, as F.pad takes it."""
    module._reversed_padding_repeated_twice = padding  # type: ignore[assignment]


def output_padding(module: Any, *asked: Any) -> Any:
    """Return the output padding of a transposed convolution for the size that it is asked for."""
    return module._output_padding(*asked)


def unbatched_dims(module: Any) -> int:
    """Return the number of axes of one instance without a batch axis, for an instance norm."""
    return module._get_no_batch_dim()


def writes_to(tensor: Tensor) -> int:
    """Return how often a tensor was written to in place."""
    return tensor._version


def writes_to_each(tensors: Collection[Tensor]) -> list[int]:
    """Return how often each of some tensors was written to; of inference tensors that is not counted."""
    try:
        return [tensor._version for tensor in tensors]
    except RuntimeError:
        return [0 if tensor.is_inference() else tensor._version for tensor in tensors]


def memory_key(storage: torch.UntypedStorage) -> int:
    """Return the key under which torch's deepcopy remembers a storage."""
    return storage._cdata


def schema_of(overload: Any) -> Any:
    """Return the schema of an operation: its name and arguments."""
    return overload._schema


def packet_of(overload: Any) -> Any:
    """Return the operation that an overload belongs to."""
    return overload._overloadpacket


def autocast_settings(context: Any) -> tuple[Any, Any, Any, Any]:
    """Return what an autocast context was made with, as `enter_autocast` takes it."""
    return context.device, context.fast_dtype, context._enabled, context._cache_enabled


def compiled_model(module: nn.Module) -> nn.Module | None:
    """Return the model inside what torch.compile returned; None for any other."""
    inside = getattr(module, "_orig_mod", None)
    return inside if isinstance(inside, nn.Module) else None


def call_of(module: fx.GraphModule) -> Any:
    """Return what calling a graph module runs."""
    return module._wrapped_call


def is_plain_graph(graph: fx.Graph) -> bool:
    """Return whether a graph takes its inputs as they are given, not flattened."""
    return type(graph._codegen) is fx.graph.CodeGen


def is_erased(node: fx_node.Node) -> bool:
    """Return whether a node has been taken out of its graph."""
    return node._erased


def functions_kept_whole() -> dict[tuple[int, str], Any]:
    """Return what `torch.fx.wrap` was told to keep whole: (id of the namespace, name)."""
    return fx._symbolic_trace._wrapped_fns_to_patch


def set_format_target(function: Any) -> None:
    """Let torch.fx write paths of submodules as `function` does."""
    fx_graph._format_target = function


def is_traced(x: Tensor) -> bool:
    """Return whether what is done with a tensor goes into a graph, so that it has no numbers to look at."""
    return type(x) is not Tensor or torch.compiler.is_compiling() or bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]


def generators() -> list[Any]:
    """Return the generators of random numbers that Python and, where it is loaded, numpy keep for everyone."""
    numpy = sys.modules.get("numpy")
    own: list[Any] = [random._inst]
    return own if numpy is None else [*own, numpy.random.mtrand._rand]


def fake_tensor_mode(**settings: Any) -> Any:
    """Return a mode in which tensors have no data."""
    from torch._subclasses.fake_tensor import FakeTensorMode  # slow to load

    return FakeTensorMode(**settings)
