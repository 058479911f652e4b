"""Contexts that a model's code enters while it is traced: gradients off, autocast on."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from campfire_fx.base.compat import autocast_settings, enter_autocast, exit_autocast, set_grad_enabled
from campfire_fx.base.errors import CaptureError
from campfire_fx.base.location import current_line
from campfire_fx.base.patches import Patches
from campfire_fx.capture.questions import Questions


class Contexts:
    """Writes into the graph of `tracer` where a context begins and ends."""

    def __init__(self, tracer: fx.Tracer, questions: Questions) -> None:
        self._tracer = tracer
        self._questions = questions
        self._grad_before: fx.Node | None = None
        self._autocasts: dict[int, Any] = {}

    def follow_grad_mode(self) -> None:
        """Record the change of grad mode, if there was one, that the code made since the last node."""
        if (not torch.is_grad_enabled()) == (self._grad_before is not None):
            return
        if torch.is_inference_mode_enabled():
            raise CaptureError(
                f"torch.inference_mode() at {current_line()}: a part of the model cannot be trained, and its tensors "
                "cannot be mixed with others. Use torch.no_grad()."
            )
        graph, set_grad = self._tracer.graph, set_grad_enabled
        if self._grad_before is None:
            self._grad_before = graph.call_function(torch.is_grad_enabled)
            graph.call_function(set_grad, (False,))
        else:
            graph.call_function(set_grad, (self._grad_before,))
            self._grad_before = None

    def install(self, patches: Patches) -> None:
        """Let the traced code enter `torch.autocast` through here until `patches` ends."""
        autocast, is_tracing = torch.autocast, self._questions.is_tracing
        enter: Callable[..., Any] = autocast.__enter__
        leave: Callable[..., Any] = autocast.__exit__

        @functools.wraps(enter)
        def traced_enter(context: Any) -> Any:
            return self._enter_autocast(context) if is_tracing() else enter(context)

        @functools.wraps(leave)
        def traced_exit(context: Any, *error: Any) -> Any:
            return self._exit_autocast(context) if is_tracing() else leave(context, *error)

        patches.put(autocast, "__init__", _plain_arguments(autocast.__init__, self._questions))
        patches.put(autocast, "__enter__", traced_enter)
        patches.put(autocast, "__exit__", traced_exit)

    def _enter_autocast(self, context: Any) -> Any:
        state = autocast_settings(context)
        self._autocasts[id(context)] = self._tracer.create_proxy("call_function", enter_autocast, state, {})
        return context

    def _exit_autocast(self, context: Any) -> None:
        entered = self._autocasts.pop(id(context))
        self._tracer.create_proxy("call_function", exit_autocast, (entered,), {})


def _plain_arguments(init: Callable[..., None], questions: Questions) -> Callable[..., None]:
    """Return a constructor that takes the example values of proxies that stand for no tensor, such as a device type."""

    def example(value: Any) -> Any:
        return questions.example(value.node) if isinstance(value, fx.Proxy) else value

    @functools.wraps(init)
    def call(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *map(example, args), **{k: example(v) for k, v in kwargs.items()})

    return call
