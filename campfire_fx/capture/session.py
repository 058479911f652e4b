"""The session: all that one trace of a model knows, and how it writes to its graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx, nn

from campfire_fx.analysis.evaluate import RECORDED, Evaluator
from campfire_fx.analysis.rules import effects
from campfire_fx.analysis.rules.factories import FACTORIES
from campfire_fx.analysis.rules.movement import hides_history
from campfire_fx.base.compat import stack_frame
from campfire_fx.base.errors import CaptureError
from campfire_fx.base.location import current_line
from campfire_fx.capture.attempts import is_handled
from campfire_fx.capture.contexts import Contexts
from campfire_fx.capture.counters import Counters, Moving
from campfire_fx.capture.guards import Guard
from campfire_fx.capture.questions import Questions
from campfire_fx.capture.structures import rebuild, unfold
from campfire_fx.capture.survey import Survey

_PLAIN = frozenset({int, float, bool, str, type(None), type(...), torch.dtype, torch.device})
_TAKE_ARRAYS = ("torch", "_operator")


class Session(fx.Tracer):
    """All that one trace of `root` knows, and how it writes to its graph; `trace_forward` runs it.

    Attributes:
        survey: what was known beforehand.
        proxies: the class of the values that stand for nodes.
        constants: tensors that the graph reads and `root` does not own.
        questions: those that Python asked, and their answers.
        guards: what must hold for the answers to be right.
        asks_mode: whether code has read or set a `training` flag; without, it does the same in either mode.
        counters: the numbers that it has changed.
        replaced: the nodes that replace the data of a tensor.
        failed: the last error inside a submodule, and its path.
    """

    def __init__(self, survey: Survey, denied: frozenset[str], proxies: type[fx.Proxy]) -> None:
        super().__init__()
        self.survey = survey
        self.root = survey.root
        self.graph = fx.Graph()
        self.evaluator = Evaluator(survey.root)
        self.constants = self.evaluator.constants
        self.questions = Questions(self.evaluator, denied)
        self.contexts = Contexts(self, self.questions)
        self.guards: tuple[Guard, ...] = ()
        self.asks_mode = False
        self.counters = Counters()
        self.replaced: list[fx.Node] = []
        self.failed: tuple[Exception, str] | None = None
        self._proxies = proxies
        self._stack: dict[str, tuple[str, type[nn.Module]]] = {}
        self._owned = dict(survey.tensors)
        self._reads: dict[str, fx.Proxy] = {}
        self._creating: tuple[str, Any] = ("", None)
        self._arrays: dict[int, tuple[Any, torch.Tensor]] = {}  # each array is held so that no other takes its place
        self._unfolded: dict[fx.Node, Any] = {}
        self._opaque_calls: dict[str, int] = {}

    def fits(self) -> bool:
        """Return whether the traced graph surely runs on inputs of the example's shapes."""
        output = next(iter(reversed(self.graph.nodes)))
        try:
            self.evaluator.value(output)
        except Exception:  # noqa: BLE001  (whatever an operation may raise)
            return False
        return True

    # What the proxies call.

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Return the proxy of a node."""
        return self._proxies(node, self)

    def unfolded(self, proxy: fx.Proxy) -> Any:
        """Return the dict, list or tuple that `proxy` stands for as a real one, of proxies."""
        if proxy.node not in self._unfolded:
            example = self.questions.example(proxy.node)
            if isinstance(example, list):
                len(proxy)  # asks
            self._unfolded[proxy.node] = unfold(proxy, example)
        return self._unfolded[proxy.node]

    def changeable(self, node: fx.Node) -> Any:
        """Return the list or dict that stands for a node since code has looked into it; None where there is none."""
        found = self._unfolded.get(node) if self._unfolded else None
        return found if isinstance(found, (list, dict)) else None

    # What fx calls.

    def create_proxy(self, kind: str, target: Any, *given: Any, **options: Any) -> Any:
        """Append a node, and return its proxy."""
        self._creating = (kind, target)
        return super().create_proxy(kind, target, *given, **options)

    def create_node(
        self, kind: str, target: Any, args: Any, kwargs: Any, name: str | None = None, type_expr: Any = None
    ) -> fx.Node:
        """Append a node, after the change of grad mode that the code made since the last one."""
        if kind != "placeholder":
            self.contexts.follow_grad_mode()
        node = self.graph.create_node(kind, target, args, kwargs, name, type_expr)
        node.meta["nn_module_stack"] = self._stack  # as torch.fx notes it: the modules being called, innermost last
        if effects.writes(node):
            self._refuse_write_behind(node)
        self.evaluator.created(node)
        handlers = self.survey.reach.handlers
        if handlers and kind.startswith("call_") and is_handled(stack_frame(1), handlers):
            self._fail_as_in_a_run(node)
        return node

    def _fail_as_in_a_run(self, node: fx.Node) -> None:
        """Raise the error that `node` gives on the example, and take the node back; the code around handles it."""
        error = self.questions.failure(node)
        if error is not None:
            self.evaluator.forget(node)
            self.graph.erase_node(node)
            raise error

    def replaces_data(self, held: fx.Proxy, value: fx.Proxy) -> bool:
        """Write `parameter.data = value` into the graph as a copy in place; return whether that is the same.

        It is for a tensor of the model's and a value like it, where code that read its data before is done with that.
        """
        old, new = (self.questions.example(proxy.node) for proxy in (held, value))
        same_kind = isinstance(new, torch.Tensor) and (new.shape, new.dtype) == (old.shape, old.dtype)
        if held.node.op != "get_attr" or not same_kind:
            return False
        with torch.no_grad():
            copied = self.create_proxy("call_method", "copy_", (held, value), {})
        self.replaced.append(copied.node)
        return True

    def _refuse_write_behind(self, node: fx.Node) -> None:
        """Refuse a change of a tensor of the model's under another name: who reads it by its own would not know."""
        target, hidden = node.args[0], False
        while isinstance(target, fx.Node) and hides_history(target):
            target, hidden = target.args[0], True
        if hidden and isinstance(target, fx.Node) and target.op == "get_attr":
            raise CaptureError(
                f"Assignment at {current_line()}: forward() writes to {target.target} behind the graph's back. "
                "Compute a new tensor from it instead, or write to it outside of forward()."
            )

    def create_arg(self, a: Any) -> Any:
        """Return `a` as a graph argument: nodes for proxies, `get_attr` for tensors, calls for types of the user's."""
        if type(a) in _PLAIN:
            return a
        if type(a) is tuple:
            return tuple([self.create_arg(item) for item in a])
        if type(a) is list:
            return [self.create_arg(item) for item in a]
        if isinstance(a, fx.Proxy):
            if a.tracer is not self:
                raise CaptureError(
                    f"Stale value at {current_line()}: a value kept from an earlier trace is used. "
                    "Do not keep tensors in globals or caches."
                )
            items = self.changeable(a.node)
            return a.node if items is None else self.create_arg(items)
        if isinstance(a, torch.Tensor):
            return self.read(a).node
        if isinstance(a, Moving):
            a.refuse()
        if isinstance(a, dict) and type(a) not in (dict, fx.immutable_collections.immutable_dict):
            return rebuild(self, a)
        if isinstance(a, torch.Size):
            return tuple(a)
        if type(a).__module__ == "numpy" and hasattr(a, "item"):
            return a.item() if a.ndim == 0 else self._array(a)
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
            if not path or id(m) not in self.survey.leaves:
                return forward(*args, **kwargs)
            result = self.create_proxy("call_module", path, args, kwargs)
            return self._recorded(result, path) if path in self.survey.opaque else result
        except Exception as error:
            if path and (self.failed is None or self.failed[0] is not error):
                self.failed = (error, path)
            raise
        finally:
            self._stack = outer

    def _recorded(self, proxy: fx.Proxy, path: str) -> Any:
        """Give the call of an opaque module, as its example, what the same call gave in a real run.

        A container of a class of its own comes back as one of proxies: what code calls on it is Python's to do.
        """
        number = self._opaque_calls.get(path, 0)
        self._opaque_calls[path] = number + 1
        outputs = self.survey.opaque[path]
        if number >= len(outputs):
            return proxy
        output = proxy.node.meta[RECORDED] = outputs[number]
        self.evaluator.give(proxy.node, output)
        return unfold(proxy, output) if isinstance(output, dict) or hasattr(output, "_fields") else proxy

    def read(self, tensor: torch.Tensor) -> fx.Proxy:
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

    def _array(self, array: Any) -> fx.Node:
        """Return the node of the tensor that stands for a numpy array: torch takes either, others may not."""
        kind, target = self._creating
        home = (getattr(target, "__module__", None) or "torch").partition(".")[0]
        if kind != "call_method" and (kind != "call_function" or target in FACTORIES or home not in _TAKE_ARRAYS):
            raise NotImplementedError(f"argument of type: {type(array)}")
        if id(array) not in self._arrays:
            self._arrays[id(array)] = (array, torch.from_numpy(array.copy()))
        return self.read(self._arrays[id(array)][1]).node

    @contextmanager
    def on_trial(self) -> Iterator[list[Any]]:
        """Run a block that may ask nothing; where it fails, take back all that it put into the graph."""
        last = next(iter(reversed(self.graph.nodes)))
        result: list[Any] = []
        try:
            with self.questions.silence():
                yield result
        except Exception:  # noqa: BLE001  (whatever a function may raise on proxies)
            result.clear()
            for node in reversed(self.graph.nodes):
                if node is last:
                    break
                self._reads.pop(str(node.target), None)
                self.graph.erase_node(node)
