"""Run a model for real, or on tensors without data, and leave it as it was."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from campfire_fx.analysis.evaluate import Evaluator, map_tensors
from campfire_fx.base.copies import private_copy
from campfire_fx.base.draws import undrawn
from campfire_fx.base.errors import CaptureError
from campfire_fx.base.location import line_of, summary
from campfire_fx.base.untouched import training_flags, untouched
from campfire_fx.capture.unfit import unfit

_LONG = 60


def run(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the output of a copy of the model in evaluation; inputs and random states stay as they are.

    Raises CaptureError with the model's own error.
    """
    return run_in_place(private_copy(model), args, kwargs)


def run_in_place(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Do as `run` does with the model itself, which may change as it runs."""

    def attempt() -> Any:
        own_args, own_kwargs = map_tensors((args, kwargs), lambda tensor: tensor.detach().clone())
        with training_flags(model, False), torch.no_grad():
            return model(*own_args, **own_kwargs)

    try:
        return undrawn(attempt)[0]
    except Exception as error:
        where = line_of(error)
        place = f" ({where})" if where else ""
        told = unfit(args, kwargs) or (
            f"the model does not run on {describe(args, kwargs)}: {summary(error)}. "
            "Give example_inputs=... that it runs on."
        )
        raise CaptureError(f"Example inputs at {type(model).__name__}{place}: {told}") from error


def fits(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], *, training: bool = False) -> bool:
    """Return whether the model surely runs on inputs of these shapes; tells in milliseconds, without computing.

    False where it does not, or where that takes data to know.
    """

    def attempt() -> None:
        with untouched(model.modules()):
            Evaluator(model, training=training).run_module(model, args, kwargs)

    try:
        undrawn(attempt)
    except Exception:  # noqa: BLE001  (whatever a model may raise)
        return False
    return True


def describe(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Return inputs as text: `(float32 2x3x224x224)`, `(x=[float32 3x64x64])`."""
    parts = [_describe(arg) for arg in args] + [f"{key}={_describe(value)}" for key, value in kwargs.items()]
    return f"({', '.join(parts)})"


def _describe(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {'x'.join(map(str, value.shape)) or 'scalar'}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_describe(item) for item in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_describe(item)}" for key, item in value.items()) + "}"
    text = repr(value)
    return text if len(text) <= _LONG and "\n" not in text else f"a {type(value).__module__}.{type(value).__name__}"
