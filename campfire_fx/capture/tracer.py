"""The tracer: one run of a model's Python code on proxies that know their example values."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx, nn
from torch.amp import autocast_mode

from campfire_fx.capture import arguments, interception, tidy
from campfire_fx.capture.evaluate import Evaluator
from campfire_fx.capture.location import current_line, expression, line_of, summary
from campfire_fx.capture.patches import Patches
from campfire_fx.capture.proxy import ExampleProxy, find_proxy
from campfire_fx.capture.records import Specialisation
from campfire_fx.capture.survey import Survey
from campfire_fx.errors import CaptureError

_Call = tuple[int, int]
_PLAIN = frozenset({int, float, bool, str, type(None), type(...), torch.dtype, torch.device})


class _Asked(Exception):
    """A question came while tracing what must not ask."""


class ExampleTracer(fx.Tracer):
    """Trace `root` once, in the mode that it is in. Use: `run(args, kwargs)`, then read `graph` and the rest.

    `constants` are tensors that the graph reads and `root` does not own; `specialisations` the questions answered.
    """

    def __init__(self, survey: Survey) -> None:
        super().__init__(autowrap_modules=())
        self.survey = survey
        self.root = root = survey.root
        self.graph = fx.Graph()
        self.specialisations: dict[Specialisation, None] = {}
        self.evaluator = Evaluator(root)
        self.constants = self.evaluator.constants
        self._thread = threading.get_ident()
        self._is_evaluating = False
        self._may_ask = True
        self._asked: dict[_Call, list[Specialisation]] = {}
        self._asking: _Call | None = None
        self._stack: dict[str, tuple[str, type[nn.Module]]] = {}
        self._owned = dict(survey.tensors)
        self._reads: dict[str, ExampleProxy] = {}
        self._unfolded: dict[fx.Node, Any] = {}
        self._grad_before: fx.Node | None = None
        self._autocasts: dict[int, Any] = {}

    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> fx.Graph:
        """Trace the root's forward on these inputs. Raises CaptureError with the line where it cannot be done."""
        with Patches() as patches:
            self._patch_modules(patches)
            interception.install(patches, self)
            try:
                call_args, call_kwargs = arguments.placeholders(self, args, kwargs)
                with torch.enable_grad():
                    result = self.root.forward(*call_args, **call_kwargs)
                self.create_node("output", "output", (self.create_arg(result),), {})
            except CaptureError:
                raise
            except Exception as error:
                raise CaptureError(_explain(error)) from error
        tidy.tidy(self.graph, self.survey)
        return self.graph

    def fits(self) -> bool:
        """Return whether the traced graph surely runs on inputs of the example's shapes."""
        output = next(reversed(self.graph.nodes))
        try:
            self.evaluator.value(output)
        except Exception:  # noqa: BLE001  (whatever an operation may raise)
            return False
        return True

    # What the proxies call.

    def proxy(self, node: fx.Node) -> ExampleProxy:
        """Return the proxy of a node."""
        return ExampleProxy(node, self)

    def is_tracing(self) -> bool:
        """Return whether the code that runs now is the model's, and not an evaluation or another thread."""
        return not self._is_evaluating and threading.get_ident() == self._thread

    def example(self, node: fx.Node) -> Any:
        """Return the example value of a node. Raises CaptureError where it depends on tensor data, or does not fit."""
        if node in self.evaluator.values:
            return self.evaluator.values[node]
        try:
            with self._evaluating():
                return self.evaluator.value(node)
        except Exception as error:
            raise CaptureError(
                f"Question at {current_line()}: the answer needs {expression(node)}, which shapes alone do not tell "
                f"({summary(error)}). Move the decision out of the model, or trace its parts."
            ) from error

    def answer(self, proxy: ExampleProxy, template: str, answer: Callable[[Any], Any]) -> Any:
        """Answer a question of Python's about `proxy` from the example, and record it."""
        asked = template.format(expression(proxy.node))
        result = answer(self._value_for(proxy.node, asked, shape_will_do=template == "len({})"))
        if not self._may_ask:
            raise _Asked
        fact = Specialisation(current_line(), asked, _unwrapped(result))
        if self._asking is None:
            self.specialisations[fact] = None
        elif fact not in self.specialisations:
            self.specialisations[fact] = None
            self._asked.setdefault(self._asking, []).append(fact)
        return result

    def _value_for(self, node: fx.Node, asked: str, *, shape_will_do: bool) -> Any:
        """Return the example value, or the true value where it takes data and no input has part in it."""
        unknown: CaptureError | None = None
        try:
            value = self.example(node)
            if shape_will_do or not isinstance(value, torch.Tensor):
                return value
        except CaptureError as error:
            unknown = error
        try:
            with self._evaluating():
                return self.evaluator.constant(node)
        except Exception as error:
            raise unknown or CaptureError(
                f"Control flow at {current_line()}: {asked} depends on the data of a tensor, so the graph would differ "
                "from input to input. Move the decision out of the model, or trace its parts."
            ) from error

    @contextmanager
    def asked_by(self, call: _Call) -> Iterator[None]:
        """Note that the questions in this block come from one call in the running code, which `take_back` may undo."""
        self._asking = call
        try:
            yield
        finally:
            self._asking = None

    def take_back(self, call: _Call) -> None:
        """Drop the questions of a call that then became a node: it keeps the size symbolic."""
        for fact in self._asked.pop(call, ()):
            self.specialisations.pop(fact, None)

    def unfolded(self, proxy: ExampleProxy) -> Any:
        """Return the dict, list or tuple that `proxy` stands for as a real one, of proxies."""
        if proxy.node not in self._unfolded:
            self._unfolded[proxy.node] = arguments.unfold(proxy, proxy.example)
        return self._unfolded[proxy.node]

    # What fx calls.

    def create_node(
        self, kind: str, target: Any, args: Any, kwargs: Any, name: str | None = None, type_expr: Any = None
    ) -> fx.Node:
        """Append a node, after the change of grad mode that the code made since the last one."""
        if kind != "placeholder" and (not torch.is_grad_enabled()) != (self._grad_before is not None):
            self._follow_grad_mode()
        node = self.graph.create_node(kind, target, args, kwargs, name, type_expr)
        node.meta["nn_module_stack"] = self._stack  # as torch.fx notes it: the modules being called, innermost last
        self.evaluator.created(node, tidy.changes_first_argument(node))
        return node

    def create_arg(self, a: Any) -> Any:
        """Return `a` as a graph argument: nodes for proxies, `get_attr` for tensors, calls for types of the user's."""
        if type(a) in _PLAIN:
            return a
        if type(a) is tuple:
            return tuple([self.create_arg(item) for item in a])
        if type(a) is list:
            return [self.create_arg(item) for item in a]
        if isinstance(a, ExampleProxy):
            if a.tracer is not self:
                raise CaptureError(
                    f"Stale value at {current_line()}: a value kept from an earlier trace is used. "
                    "Do not keep tensors in globals or caches."
                )
            return a.node
        if isinstance(a, torch.Tensor):
            return self._read(a).node
        if isinstance(a, dict) and type(a) not in (dict, fx.immutable_collections.immutable_dict):
            return arguments.rebuild(self, a)
        if isinstance(a, torch.Size):
            return tuple(a)
        if type(a).__module__ == "numpy" and hasattr(a, "item") and a.ndim == 0:
            return a.item()
        return super().create_arg(a)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Keep a leaf module as one node; run the code of any other."""
        path = self.survey.paths.get(id(m))
        outer = self._stack
        if path:
            self._stack = {**outer, path: (path, type(m))}
        try:
            if path and id(m) in self.survey.leaves:
                return self.create_proxy("call_module", path, args, kwargs)
            return forward(*args, **kwargs)
        finally:
            self._stack = outer

    # How names on modules are read and written.

    def _patch_modules(self, patches: Patches) -> None:
        call, read, write = nn.Module.__call__, nn.Module.__getattr__, nn.Module.__setattr__

        def traced_call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if not self.is_tracing():
                return call(module, *args, **kwargs)
            return self.call_module(module, lambda *a, **k: call(module, *a, **k), args, kwargs)

        def traced_read(module: nn.Module, name: str) -> Any:
            value = read(module, name)
            return self._read(value) if isinstance(value, torch.Tensor) and self.is_tracing() else value

        def traced_write(module: nn.Module, name: str, value: Any) -> None:
            if id(module) in self.survey.leaves and self.is_tracing():
                self._write_to_leaf(module, name, value)
                patches.put(module.__dict__, name, value)
            elif isinstance(value, ExampleProxy) and name not in module._parameters and name not in module._modules:
                self._write(module, name, value)
            else:
                write(module, name, value)

        patches.put(nn.Module, "__call__", traced_call)
        patches.put(nn.Module, "__getattr__", traced_read)
        patches.put(nn.Module, "__setattr__", traced_write)

    def _read(self, tensor: torch.Tensor) -> ExampleProxy:
        """Return the one proxy of a tensor that the model owns, or that its code came by."""
        name = self._owned.get(id(tensor))
        if name is None:
            name = f"_constant{len(self.constants)}"
            self._owned[id(tensor)] = name
            self.constants[name] = tensor
        if name not in self._reads:
            node = self.create_node("get_attr", name, (), {})
            self._reads[name] = self.proxy(node)
        return self._reads[name]

    def _write(self, module: nn.Module, name: str, value: ExampleProxy) -> None:
        """Assign a proxy to an attribute. A buffer takes the value over; `self.n += 1` has done so already."""
        buffer = module._buffers.get(name)
        if buffer is None:
            module.__dict__[name] = value
        elif not tidy.is_same_tensor(value.node, self._read(buffer).node):
            self.create_proxy("call_method", "copy_", (self._read(buffer), value), {})

    def _write_to_leaf(self, leaf: nn.Module, name: str, value: Any) -> None:
        """Refuse a change of what a leaf computes: it would be gone when the leaf runs. New names may pass."""
        if hasattr(leaf, name) and getattr(leaf, name) is not value:
            raise CaptureError(
                f"Assignment at {current_line()}: forward() changes {name!r} of {self.survey.paths[id(leaf)]}. "
                "Compute with torch.nn.functional instead, or set it once before."
            )

    # Contexts.

    def _follow_grad_mode(self) -> None:
        set_grad = torch._C._set_grad_enabled
        if torch.is_inference_mode_enabled():
            raise CaptureError(
                f"torch.inference_mode() at {current_line()}: a part of the model cannot be trained, and its tensors "
                "cannot be mixed with others. Use torch.no_grad()."
            )
        if self._grad_before is None:
            self._grad_before = self.graph.call_function(torch.is_grad_enabled)
            self.graph.call_function(set_grad, (False,))
        else:
            self.graph.call_function(set_grad, (self._grad_before,))
            self._grad_before = None

    def enter_autocast(self, context: Any) -> Any:
        """Record the entry into `with torch.autocast(...)`."""
        state = (context.device, context.fast_dtype, context._enabled, context._cache_enabled)
        self._autocasts[id(context)] = self.create_proxy("call_function", autocast_mode._enter_autocast, state, {})
        return context

    def exit_autocast(self, context: Any) -> None:
        """Record the way out."""
        self.create_proxy("call_function", autocast_mode._exit_autocast, (self._autocasts.pop(id(context)),), {})

    # Functions that torch.fx.wrap keeps whole.

    def wrapped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function` made to become one node, or what it does where that depends on no question."""

        def call(*args: Any, **kwargs: Any) -> Any:
            if find_proxy(args, kwargs) is None:
                return function(*args, **kwargs)
            with self._on_trial() as trial:
                trial.append(function(*args, **kwargs))
            return trial[0] if trial else self.create_proxy("call_function", function, args, kwargs)

        return call

    @contextmanager
    def _on_trial(self) -> Iterator[list[Any]]:
        """Run a block that may ask nothing; where it fails, take back all that it put into the graph."""
        outer, last = self._may_ask, next(reversed(self.graph.nodes))
        self._may_ask = False
        result: list[Any] = []
        try:
            yield result
        except Exception:  # noqa: BLE001  (whatever a function may raise on proxies)
            result.clear()
            for node in reversed(self.graph.nodes):
                if node is last:
                    break
                self._reads.pop(str(node.target), None)
                self.graph.erase_node(node)
        finally:
            self._may_ask = outer

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        outer, self._is_evaluating = self._is_evaluating, True
        try:
            yield
        finally:
            self._is_evaluating = outer


def _unwrapped(value: Any) -> Any:
    return tuple(value) if isinstance(value, torch.Size) else value


def _explain(error: Exception) -> str:
    where = line_of(error) or "unknown line"
    return (
        f"Python code at {where} cannot be captured: {type(error).__name__}: {summary(error)}. "
        "Write it with torch operations, or trace the parts of the model."
    )
