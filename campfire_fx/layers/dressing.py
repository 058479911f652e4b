"""Dressing: put a class over a module that exists, so that it stays the same object and gains methods.

A captured model is an fx.GraphModule whose forward fx writes anew as the class's own, or, where it was captured in
parts, a module of the user's class. Around it, a SparseModel would give every parameter another name than the dense
model has, and would be no GraphModule. So it stays the module, and gets a class of its own,
`type(name, (over, its class), {})`, as FSDP2 does it. That class cannot be found by name, so copying and pickling step
back to the module's own class and dress the result.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar, cast

from torch import fx, nn

from campfire_fx.base.compat import buffers_of, call_of, children_of, parameters_of
from campfire_fx.base.errors import CampfireError
from campfire_fx.base.records import html_of


class Dress(nn.Module):
    """Base of classes to be put over others; its attributes are the ones given to `dress`."""

    _worn: ClassVar[tuple[str, ...]] = ()
    _under: ClassVar[str] = ""

    @property
    def examples(self) -> tuple[tuple[tuple[Any, ...], dict[str, Any]], ...]:
        """(args, kwargs) of every example that the model was captured with."""
        raise NotImplementedError

    @property
    def _guessed(self) -> bool:
        """Whether nothing said what the model is called with, and the example was guessed."""
        return False

    def report(self) -> Any:
        """Return what is to be known about this model; print it with rich or `print`."""
        raise NotImplementedError

    def _overview(self) -> Any:
        """Return what a notebook shows of this model: a report for which nothing need be measured."""
        return self.report()

    def _repr_html_(self) -> str | None:
        return html_of(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Dress:
        over = type(self).__bases__[0]
        attributes = copy.deepcopy({name: vars(self)[name] for name in self._worn}, memo)
        with undressed(self) as plain:
            result = copy.deepcopy(plain, memo)
        return _put_on(result, over, attributes)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        over = type(self).__bases__[0]
        attributes = {name: vars(self)[name] for name in self._worn}
        with undressed(self) as plain:
            function, arguments, *rest = cast(tuple[Any, ...], plain.__reduce_ex__(protocol))
        return _rebuild, (function, arguments, over, attributes), *rest


D = TypeVar("D", bound=Dress)


def dress(module: nn.Module, over: type[D], attributes: dict[str, Any]) -> D:
    """Make `module` an instance of `over` as well, in place.

    Raises:
        CampfireError: a submodule or tensor of the module has the name of one of `over`'s methods.
    """
    if isinstance(module, Dress):  # a part of a model that was dressed before, and put together anew
        for name in module._worn:
            vars(module).pop(name)
        module.__class__ = type(module).__bases__[1]
    own = {name for cls in over.__mro__[: over.__mro__.index(Dress)] for name in vars(cls) if not name.startswith("_")}
    for name in (*children_of(module), *parameters_of(module), *buffers_of(module)):
        if name in own:
            raise CampfireError(
                f"{type(module).__name__} at {name}: {over.__name__} has a method of that name, which would hide it. "
                "Rename it in the model, or wrap the model in another module."
            )
    if isinstance(module, fx.GraphModule):  # its data is for code around it alone, and must hide no method
        for name in own & vars(module).keys():
            del vars(module)[name]
    return _put_on(module, over, attributes)


def plain_name(module: nn.Module) -> str:
    """Return the name of a module's class without what was put over it, however often the module was made anew."""
    return type(module)._under if isinstance(module, Dress) else type(module).__name__


def _put_on(module: nn.Module, over: type[D], attributes: dict[str, Any]) -> D:
    cls = type(module)
    names: dict[str, Any] = {"_worn": tuple(attributes), "_under": plain_name(module), "__module__": cls.__module__}
    if isinstance(module, fx.GraphModule):
        # fx gives the class of a graph module a __call__ that goes through _wrapped_call, and makes a new
        # _wrapped_call on recompile where the class has none of its own; that one would call itself.
        names["_wrapped_call"] = call_of(module)
    properties = [
        name for kind in (over, *cls.__mro__) for name, value in vars(kind).items() if type(value) is property
    ]
    names["__jit_unused_properties__"] = properties  # torch.jit.script would compile the code of each
    module.__class__ = type(f"{over.__name__.removesuffix('Model')}{names['_under']}", (over, cls), names)
    vars(module).update(attributes)
    return cast(D, module)


@contextmanager
def undressed(module: Dress) -> Iterator[nn.Module]:
    """Give a module its own class back for a while."""
    dressed = type(module)
    attributes = {name: vars(module).pop(name) for name in module._worn}
    module.__class__ = dressed.__bases__[1]
    try:
        yield module
    finally:
        module.__class__ = dressed
        vars(module).update(attributes)


def _rebuild(
    function: Callable[..., nn.Module], arguments: tuple[Any, ...], over: type[Dress], attributes: dict[str, Any]
) -> nn.Module:
    return _put_on(function(*arguments), over, attributes)  # its __dict__ may still be to come
