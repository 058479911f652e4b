"""How a model's code reaches its modules while it is traced: calls, and attributes read and written."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from campfire_fx.base.compat import buffers_of, children_of, parameters_of
from campfire_fx.base.errors import CaptureError
from campfire_fx.base.location import current_line
from campfire_fx.base.patches import Patches
from campfire_fx.capture import tidy
from campfire_fx.capture.proxy import ExampleProxy
from campfire_fx.capture.session import Session


class ModuleAccess:
    """Stands in for `nn.Module`'s own call, read and write while a session runs."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._survey = session.survey

    def install(self, patches: Patches) -> None:
        """Put everything in place until `patches` ends."""
        call, read, write = nn.Module.__call__, nn.Module.__getattr__, nn.Module.__setattr__
        is_tracing = self._session.questions.is_tracing

        def traced_call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if not is_tracing():
                return call(module, *args, **kwargs)
            return self._session.call_module(module, lambda *a, **k: call(module, *a, **k), args, kwargs)

        def traced_read(module: nn.Module, name: str) -> Any:
            value = read(module, name)
            return self._session.read(value) if isinstance(value, torch.Tensor) and is_tracing() else value

        def traced_write(module: nn.Module, name: str, value: Any) -> None:
            if id(module) in self._survey.leaves and is_tracing():
                self._refuse_change(module, name, value)
                patches.put(module.__dict__, name, value)
            elif isinstance(value, ExampleProxy) and not (name in parameters_of(module) or name in children_of(module)):
                self._write(module, name, value)
            else:
                if is_tracing():
                    self._session.counters.note(module, name, value)
                write(module, name, value)

        patches.put(nn.Module, "__call__", traced_call)
        patches.put(nn.Module, "__getattr__", traced_read)
        patches.put(nn.Module, "__setattr__", traced_write)
        # Classes that have the name themselves hide the property; of those it cannot be known.
        self._session.asks_mode = any(
            hasattr(cls, "training") for cls in {type(m) for m in self._survey.modules.values()}
        )
        patches.put(nn.Module, "training", property(self._read_mode, self._write_mode))

    def _read_mode(self, module: nn.Module) -> bool:
        self._session.asks_mode |= self._session.questions.is_tracing()
        flags = module.__dict__
        return bool(flags["training"] if "training" in flags else module.__getattr__("training"))

    def _write_mode(self, module: nn.Module, training: bool) -> None:
        self._session.asks_mode |= self._session.questions.is_tracing()
        module.__dict__["training"] = training

    def _write(self, module: nn.Module, name: str, value: ExampleProxy) -> None:
        """Assign a proxy to an attribute. A buffer takes the value over; `self.n += 1` has done so already."""
        buffer = buffers_of(module).get(name)
        if buffer is None:
            module.__dict__[name] = value
        elif not tidy.is_same_tensor(value.node, self._session.read(buffer).node):
            self._session.create_proxy("call_method", "copy_", (self._session.read(buffer), value), {})

    def _refuse_change(self, leaf: nn.Module, name: str, value: Any) -> None:
        """Refuse a change of what a leaf computes: it would be gone when the leaf runs. New names may pass."""
        if hasattr(leaf, name) and getattr(leaf, name) is not value:
            raise CaptureError(
                f"Assignment at {current_line()}: forward() changes {name!r} of {self._survey.paths[id(leaf)]}. "
                "Compute with torch.nn.functional instead, or set it once before."
            )
