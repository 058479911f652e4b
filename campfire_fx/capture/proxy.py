"""Proxies that know their example value: questions on shapes are answered, all else becomes graph nodes."""

from __future__ import annotations

import builtins
import contextlib
import copy
import math
import operator
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import torch
from torch import fx
from torch.fx.proxy import Attribute

from campfire_fx.analysis.rules import Kind, lookup
from campfire_fx.analysis.rules.conventions import IN_PLACE
from campfire_fx.base.compat import OpOverload, ScriptMethod, stack_frame
from campfire_fx.base.errors import CaptureError
from campfire_fx.base.location import current_line, expression
from campfire_fx.capture.branches import other_way_raises
from campfire_fx.capture.overloads import plain_call
from campfire_fx.capture.session import Session

_TENSOR_NAMES = frozenset(dir(torch.Tensor))
_FIELDS = frozenset(name for kind in vars(torch.return_types).values() for name in getattr(kind, "__match_args__", ()))
_UNPACK = __import__("dis").opmap["UNPACK_SEQUENCE"]
_EXTENDED = __import__("dis").opmap["EXTENDED_ARG"]
_VIEWS: tuple[type, ...] = (type({}.keys()), type({}.values()), type({}.items()))


class ExampleProxy(fx.Proxy):
    """A value of the traced model. `example` is what it is for the example inputs, tensors without data."""

    tracer: Session
    __array_priority__ = torch.Tensor.__array_priority__  # numpy leaves `array * x` to x, as it does for tensors

    @property
    def example(self) -> Any:
        """The example value, computed on first use."""
        return self.tracer.questions.example(self.node)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # protocols that this value does not follow
            raise AttributeError(name)
        if name not in _TENSOR_NAMES and not hasattr(self.example, name):
            raise AttributeError(f"{type(self.example).__name__!r} object has no attribute {name!r}")
        if name in _FIELDS and (value := self._with_fields()):
            field = getattr(value, name)  # `max(dim).values` is `max(dim)[0]`
            return next((self._call(operator.getitem, self, i) for i, v in enumerate(value) if v is field), field)
        return ExampleAttribute(self, name)

    def _with_fields(self) -> tuple[Any, ...] | None:
        """Return an example whose parts have names; None where it is another, or cannot be told by shapes alone."""
        with contextlib.suppress(CaptureError):
            return self.example if type(self.example).__module__ == torch.return_types.__name__ else None
        return None

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "data" and isinstance(value, ExampleProxy) and self.tracer.replaces_data(self, value):
            return
        if name in _TENSOR_NAMES:
            raise CaptureError(
                f"Assignment at {current_line()}: {expression(self.node)}.{name} = ... changes a tensor behind the "
                "graph's back. Use an operation that returns the new tensor."
            )
        object.__setattr__(self, name, value)

    # Questions. Each is answered from the example, and recorded.

    def _ask(self, template: str, answer: Callable[[Any], Any]) -> Any:
        return self.tracer.questions.answer(self.node, template, answer)

    def __bool__(self) -> bool:
        asking = stack_frame(1)
        return self.tracer.questions.truth(self.node, lambda answer: other_way_raises(asking, answer))

    def __int__(self) -> int:
        return int(self._ask("int({})", int))

    def __float__(self) -> float:
        return float(self._ask("float({})", float))

    def __complex__(self) -> complex:
        return complex(self._ask("complex({})", complex))

    def __index__(self) -> int:
        # torch's C functions ask while they look for proxies among their arguments; __torch_function__ takes it back.
        call = stack_frame(1)
        with self.tracer.questions.asked_by((id(call), call.f_lasti)):
            return int(self._ask("int({})", operator.index))

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        import numpy as np

        return np.asarray(self._ask("numpy.asarray({})", _itself))

    def __hash__(self) -> int:
        example = self.example
        return object.__hash__(self) if _holds_tensor(example) else hash(self._ask("hash({})", _itself))

    def __str__(self) -> str:
        return repr(self) if _holds_tensor(self.example) else str(self._ask("str({})", _itself))

    def __format__(self, spec: str) -> str:
        return repr(self) if _holds_tensor(self.example) else format(self._ask("str({})", _itself), spec)

    def __len__(self) -> int:
        items, example = self.tracer.changeable(self.node), self.example
        if items is not None:
            return len(items)
        return len(example) if _is_structure(example) else int(self._ask("len({})", len))

    def __contains__(self, item: Any) -> bool:
        if isinstance(self.example, dict):
            return item in self.tracer.unfolded(self)
        return any(item is element or bool(item == element) for element in self)

    def __iter__(self) -> Iterator[Any]:
        count = _unpacked(stack_frame(1))
        if count is None:
            example = self.example
            if isinstance(example, (dict, list, *_VIEWS)) or not hasattr(example, "__getitem__"):
                return iter(self.tracer.unfolded(self))
            count = len(self)
        return iter([self[i] for i in range(count)])  # type: ignore[index]  # fx makes __getitem__

    def __reversed__(self) -> Iterator[Any]:
        return reversed(list(self))

    # Operations that fx leaves out.

    def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.tracer.create_proxy("call_function", function, args, {})

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(self.example, (list, dict)):
            self.tracer.unfolded(self)[index] = value
        else:
            self._call(operator.setitem, self, index, value)

    def __delitem__(self, index: Any) -> None:
        del self.tracer.unfolded(self)[index]

    def __divmod__(self, other: Any) -> Any:
        return self._call(divmod, self, other)

    def __rdivmod__(self, other: Any) -> Any:
        return self._call(divmod, other, self)

    def __round__(self, digits: int | None = None) -> Any:
        return self._call(builtins.round, self, digits)

    def __trunc__(self) -> Any:
        return self._call(math.trunc, self)

    def __floor__(self) -> Any:
        return self._call(math.floor, self)

    def __ceil__(self) -> Any:
        return self._call(math.ceil, self)

    def __copy__(self) -> Any:
        # A copy of a tensor that is not deep is the same data under another name.
        return self if _holds_tensor(self.example) else self._call(copy.copy, self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if isinstance(self.example, torch.Tensor):
            return self.tracer.create_proxy("call_method", "clone", (self,), {})
        return self._call(copy.deepcopy, self)

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise CaptureError(
            f"Pickling at {current_line()}: {expression(self.node)} is a value of a model that is being captured. "
            "Keep files and processes out of forward()."
        )

    @classmethod
    def __torch_function__(
        cls, orig_method: Any, types: Any, args: tuple[Any, ...] | None = None, kwargs: dict[str, Any] | None = None
    ) -> Any:
        args, kwargs = args or (), kwargs or {}
        proxy = find_proxy(args, kwargs)
        assert proxy is not None
        call = stack_frame(1)
        proxy.tracer.questions.take_back((id(call), call.f_lasti))
        rule = lookup(orig_method)
        if rule is not None and rule.kind is Kind.GUARD and not isinstance(args[0].example, torch.Tensor):
            kept = proxy.tracer.questions.keep(args[0].node, args[1])
            assert kept or args[0], args[1]
            return None
        if isinstance(orig_method, ScriptMethod):
            return proxy.tracer.create_proxy("call_method", orig_method.name, (orig_method.owner, *args), kwargs)
        if isinstance(orig_method, OpOverload):
            plain = plain_call(orig_method, args, kwargs)
            return proxy.tracer.create_proxy(*(plain or ("call_function", orig_method, args, kwargs)))
        if torch.overrides.is_tensor_method_or_property(orig_method):
            return proxy.tracer.create_proxy("call_method", orig_method.__name__, args, kwargs)
        return proxy.tracer.create_proxy("call_function", orig_method, args, kwargs)


class ExampleAttribute(ExampleProxy, Attribute):
    """An attribute of a proxy; becomes a node only if it is used as a value and not called."""

    def __init__(self, root: ExampleProxy, attr: str) -> None:
        Attribute.__init__(self, root, attr)

    @property
    def node(self) -> fx.Node:  # type: ignore[override]
        """The node that reads the attribute."""
        node = Attribute.node.fget(self)  # type: ignore[attr-defined]
        assert isinstance(node, fx.Node)
        return node

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method that the attribute is."""
        root: Any = self.root
        if self.attr not in _TENSOR_NAMES and isinstance(root.example, (dict, list)):
            return getattr(root.tracer.unfolded(root), self.attr)(*args, **kwargs)
        return root.tracer.create_proxy("call_method", self.attr, (root, *args), kwargs)


def find_proxy(*values: Any) -> ExampleProxy | None:
    """Return a proxy among nested tuples, lists, dicts and slices; None if there is none."""
    for value in values:
        if isinstance(value, ExampleProxy):
            return value
        if isinstance(value, dict):
            value = tuple(value.values())
        elif isinstance(value, slice):
            value = (value.start, value.stop, value.step)
        if isinstance(value, (tuple, list)):
            found = find_proxy(*value)
            if found is not None:
                return found
    return None


def _itself(value: Any) -> Any:
    return value


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return any(_holds_tensor(item) for item in value)
    return isinstance(value, (torch.Tensor, dict))


def _is_structure(value: Any) -> bool:
    """Return whether the length of `value` is part of how the model is built, and not a size that inputs may change."""
    return isinstance(value, (torch.Size, dict, str, *_VIEWS)) or hasattr(value, "_fields")


def _unpacked(frame: Any) -> int | None:
    """Return n where `frame` is about to do `a1, ..., an = value`: then the length is known without the example."""
    code, at = frame.f_code.co_code, frame.f_lasti
    if code[at] != _UNPACK or (at >= 2 and code[at - 2] == _EXTENDED):
        return None
    return int(code[at + 1])


def _in_place(changing: Callable[[Any, Any], Any], plain: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def method(self: ExampleProxy, other: Any) -> Any:
        if _is_surely_tensor(self.node) or isinstance(self.example, torch.Tensor):
            return self._call(changing, self, other)
        if isinstance(self.example, list):
            changing(self.tracer.unfolded(self), other)
            return self
        # A size is a number: `h *= 2` gives the name h another, and leaves other names for the first alone.
        return self._call(plain, self, other)

    return method


def _is_surely_tensor(node: fx.Node) -> bool:
    """Return whether `node` is a tensor by its operation alone; False where only the example can tell."""
    while True:
        if node.op == "call_module":
            return True
        if node.op == "call_function" and node.target not in ARITHMETIC:
            return (getattr(node.target, "__module__", None) or "").startswith("torch.nn.functional")
        if node.op != "call_function" or not isinstance(node.args[0], fx.Node):
            return False
        node = node.args[0]


# fx would turn `x += y` into `x + y`, and lose that other names for x see the change.
ARITHMETIC = frozenset(IN_PLACE) | frozenset(IN_PLACE.values())
for _changing, _plain in IN_PLACE.items():
    setattr(ExampleProxy, f"__{_changing.__name__}__", _in_place(_changing, _plain))
