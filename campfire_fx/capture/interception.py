"""What runs in place of Python's and torch's own functions while a model is traced.

Proxies see what is done *to* them. Not what is done around them: `int(size)` must return a real int, `torch.zeros(3)`
has no proxy in it, `isinstance` looks at the class, `with torch.no_grad()` only sets a flag. Those are replaced where
the user's code looks them up, and behave as before for whatever is not a proxy.
"""

from __future__ import annotations

import builtins
import copyreg
import functools
import math
import operator
import sys
from collections.abc import Callable, Iterable
from types import BuiltinMethodType, MethodType
from typing import Any

import torch
import torch.utils.checkpoint
from torch import nn

from campfire_fx.analysis.function_call import FunctionCall
from campfire_fx.analysis.rules.factories import INTERCEPTED
from campfire_fx.base.compat import CachedFunction, functions_kept_whole
from campfire_fx.base.patches import Patches, is_patched_here
from campfire_fx.capture import kept_results, numpy_numbers
from campfire_fx.capture.kept_results import uncached
from campfire_fx.capture.proxy import ExampleProxy, find_proxy
from campfire_fx.capture.session import Session

# Methods of real tensors whose argument parser does not see proxies among sizes and indices.
_TENSOR_METHODS = (
    "__getitem__ __setitem__ expand repeat reshape view tile new_empty new_full new_ones new_zeros".split()
)
_MATH = {id(value): value for name, value in vars(math).items() if callable(value) and not name.startswith("_")}
_CHECKPOINT_OPTIONS = frozenset(
    {"use_reentrant", "context_fn", "determinism_check", "debug", "preserve_rng_state", "early_stop"}
)
_MISSING = object()


class _StandIn(type):
    """Metaclass of stand-ins for `int`, `float`, `torch.Size`: equal to the real class, a call on proxies is a node."""

    real: type

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        proxy = find_proxy(args)
        if proxy is None:
            return cls.real(*args, **kwargs)
        return proxy.tracer.create_proxy("call_function", cls.real, args, kwargs)

    def __instancecheck__(cls, instance: Any) -> bool:
        return _isinstance(instance, cls.real)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(_real(subclass), cls.real)

    def __getattr__(cls, name: str) -> Any:
        return getattr(cls.real, name)

    def __eq__(cls, other: object) -> bool:
        return other is cls or other is cls.real

    def __hash__(cls) -> int:
        return hash(cls.real)

    @property
    def dtype(cls) -> Any:
        """The dtype that numpy takes the real class for."""
        return sys.modules["numpy"].dtype(cls.real)


copyreg.pickle(_StandIn, lambda cls: (_real, (cls.real,)))  # as the real class


class _TypeStandIn(_StandIn):
    """Metaclass of the stand-in for `type`: the type of a proxy is that of its example."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if len(args) != 1:
            return type(*args, **kwargs)
        kind = type(args[0].example) if isinstance(args[0], ExampleProxy) else type(args[0])
        return kind if kind in _HERE and not is_patched_here() else _STAND_INS.get(kind, kind)


class _VariableStandIn(_StandIn):
    """Metaclass of the stand-in for `torch.autograd.Variable`, which has been the tensor itself since torch 0.4."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return cls.real(*args, **kwargs) if find_proxy(args) is None else args[0]


def _stand_in(real: type, meta: type[_StandIn] = _StandIn) -> _StandIn:
    return meta(real.__name__, (), {"real": real, "__module__": real.__module__})


_INT, _FLOAT, _SIZE, _FINFO = (_stand_in(real) for real in (int, float, torch.Size, torch.finfo))
_TYPE = _stand_in(type, _TypeStandIn)
# What the type of a value is, where code knows that type by the stand-in.
_STAND_INS: dict[type, type] = {int: _INT, float: _FLOAT, type: _TYPE, torch.Size: _SIZE, torch.finfo: _FINFO}
_HERE = frozenset({torch.Size, torch.finfo})  # those that other threads know as they are


def _real(kind: Any) -> Any:
    if isinstance(kind, tuple):
        return tuple(_real(item) for item in kind)
    return kind.real if isinstance(type(kind), type) and issubclass(type(kind), _StandIn) else kind


def _isinstance(value: Any, kind: Any) -> bool:
    return isinstance(value.example if isinstance(value, ExampleProxy) else value, _real(kind))


def _jit_isinstance(isinstance_of_torch: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    """Return `torch.jit.isinstance`, which also looks into containers, made to see the examples of proxies."""

    @functools.wraps(isinstance_of_torch)
    def call(value: Any, kind: Any) -> bool:
        return isinstance_of_torch(_with_examples(value), _real(kind))

    return call


def _with_examples(value: Any) -> Any:
    if isinstance(value, ExampleProxy):
        return value.example
    if type(value) is dict:
        return {key: _with_examples(item) for key, item in value.items()}
    return type(value)(map(_with_examples, value)) if type(value) in (tuple, list) else value


def _len(value: Any) -> Any:
    if isinstance(value, ExampleProxy) and isinstance(value.example, torch.Tensor):
        return value.tracer.create_proxy("call_function", len, (value,), {})
    return len(value)


def _symbolic(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function`, made to become a node where an argument is or holds a proxy."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        proxy = find_proxy(args, kwargs)
        if proxy is None:
            return function(*args, **kwargs)
        return proxy.tracer.create_proxy("call_function", function, args, kwargs)

    return call


def _unscripted(function: Any) -> Callable[..., Any]:
    """Return a scripted function made to run its Python source for proxies, which TorchScript does not take."""
    source = getattr(function, "_torchdynamo_inline", function)
    return lambda *args, **kwargs: (function if find_proxy(args, kwargs) is None else source)(*args, **kwargs)


def _without_checkpoint(checkpoint: Callable[..., Any]) -> Callable[..., Any]:
    """Return a `checkpoint` that just runs the function for proxies: recomputing saves memory and changes no result."""

    @functools.wraps(checkpoint)
    def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if find_proxy(args, kwargs) is None:
            return checkpoint(function, *args, **kwargs)
        return function(*args, **{key: value for key, value in kwargs.items() if key not in _CHECKPOINT_OPTIONS})

    return call


def install(patches: Patches, session: Session) -> None:
    """Put everything in place for the trace of a session, until `patches` ends."""
    replaced = {id(function): _symbolic(function) for function in _MATH.values()}
    for name, function in list(vars(math).items()):
        if id(function) in replaced:
            patches.put(vars(math), name, replaced[id(function)])
    numpy_numbers.install(patches)
    for function in INTERCEPTED:
        # A node each, also without a proxy: else a random tensor would be drawn once and for all.
        replaced[id(function)] = _factory(function, session)
        patches.put(vars(torch), function.__name__, replaced[id(function)])
    checkpoint = torch.utils.checkpoint.checkpoint
    replaced[id(checkpoint)] = _without_checkpoint(checkpoint)
    patches.put(vars(torch.utils.checkpoint), "checkpoint", replaced[id(checkpoint)])
    for name in _TENSOR_METHODS:
        patches.put(torch.Tensor, name, _tensor_method(name, getattr(torch.Tensor, name)))
    replaced.update({id(torch.Size): _SIZE, id(torch.finfo): _FINFO})
    patches.put_here(torch, "Size", _SIZE)
    patches.put_here(torch, "finfo", _FINFO)
    replaced[id(torch.jit.isinstance)] = asks_in_jit = _jit_isinstance(torch.jit.isinstance)
    patches.put(vars(torch.jit), "isinstance", asks_in_jit)
    replaced[id(torch.autograd.Variable)] = variable = _stand_in(torch.autograd.Variable, _VariableStandIn)
    patches.put_here(torch.autograd, "Variable", variable)
    patches.put(vars(torch), "is_tensor", lambda value: _isinstance(value, torch.Tensor))
    patches.put(torch.autograd.Function, "apply", _apply())
    session.contexts.install(patches)
    _install_in_namespaces(patches, session, replaced)
    _install_on_modules(patches, session.survey.python)
    kept_results.install(patches, session.survey.reach.caches)


def _install_in_namespaces(patches: Patches, session: Session, replaced: dict[int, Any]) -> None:
    """Replace what the user's code knows by a name of its own: builtins, and functions it imported one by one."""
    built_in: dict[str, Any] = {name: _symbolic(getattr(builtins, name)) for name in ("max", "min", "round", "pow")}
    built_in.update(int=_INT, float=_FLOAT, isinstance=_isinstance, type=_TYPE, len=_len)
    for scope, names in session.survey.reach.namespaces.values():
        for name in names:
            value = scope.get(name, _MISSING)
            if value is _MISSING and name in built_in:
                patches.put(scope, name, built_in[name])
            elif id(value) in replaced:
                patches.put(scope, name, replaced[id(value)])
            elif isinstance(value, torch.jit.ScriptFunction):
                patches.put(scope, name, _unscripted(value))
            elif _is_apply(value):
                patches.put(scope, name, _symbolic(FunctionCall(value.__self__)))
            elif isinstance(value, CachedFunction):
                patches.put(scope, name, uncached(value))
            elif (id(scope), name) in functions_kept_whole():
                patches.put(scope, name, _wrapped(value, session))


def _install_on_modules(patches: Patches, modules: Iterable[nn.Module]) -> None:
    """Replace every `apply` of a torch.autograd.Function that a module keeps as an attribute."""
    for module in modules:
        for name, value in list(module.__dict__.items()):
            if _is_apply(value):
                patches.put(module.__dict__, name, _symbolic(FunctionCall(value.__self__)))


def _is_apply(value: Any) -> bool:
    """Return whether a value is the `apply` of a torch.autograd.Function, kept under whatever name."""
    owner = getattr(value, "__self__", None) if isinstance(value, (MethodType, BuiltinMethodType)) else None
    return isinstance(owner, type) and issubclass(owner, torch.autograd.Function) and value.__name__ == "apply"


def _wrapped(function: Callable[..., Any], session: Session) -> Callable[..., Any]:
    """Return `function` made to become one node, or what it does where that depends on no question."""

    def call(*args: Any, **kwargs: Any) -> Any:
        if find_proxy(args, kwargs) is None:
            return function(*args, **kwargs)
        with session.on_trial() as trial:
            trial.append(function(*args, **kwargs))
        return trial[0] if trial else session.create_proxy("call_function", function, args, kwargs)

    return call


def _factory(function: Callable[..., Any], session: Session) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not session.questions.is_tracing():
            return function(*args, **{**kwargs, "dtype": _real(kwargs["dtype"])} if "dtype" in kwargs else kwargs)
        try:
            return session.create_proxy("call_function", function, args, kwargs)
        except NotImplementedError:  # numpy arrays and the like, which graphs do not hold
            return function(*args, **{name: _known_kind(value) for name, value in kwargs.items()})

    return call


def _known_kind(value: Any) -> Any:
    """Return the example of a proxy that stands for a dtype or device: a constant has those of the model for good."""
    kind = value.example if isinstance(value, ExampleProxy) else None
    return kind if isinstance(kind, (torch.dtype, torch.device)) else value


@functools.cache  # every trace puts the same ones in place
def _tensor_method(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        proxy = None if isinstance(self, ExampleProxy) else find_proxy(args, kwargs)
        if proxy is None:
            return method(self, *args, **kwargs)
        if name == "__getitem__":
            return proxy.tracer.create_proxy("call_function", operator.getitem, (self, *args), {})
        if name == "__setitem__":
            return proxy.tracer.create_proxy("call_function", operator.setitem, (self, *args), {})
        return proxy.tracer.create_proxy("call_method", name, (self, *args), kwargs)

    return call


def _apply() -> classmethod[Any, Any, Any]:
    """Return an `autograd.Function.apply` that becomes a node for proxies: its backward is not its forward's."""
    real = vars(torch.autograd.Function)["apply"]

    def apply(cls: type[torch.autograd.Function], *args: Any, **kwargs: Any) -> Any:
        proxy = find_proxy(args)
        if proxy is None:
            return real.__get__(None, cls)(*args, **kwargs)
        return proxy.tracer.create_proxy("call_function", FunctionCall(cls), args, kwargs)

    return classmethod(apply)
