"""Example inputs: bring them to one form, or guess them from the model."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from campfire_fx.analysis.captured import Call
from campfire_fx.analysis.evaluate import map_tensors
from campfire_fx.base.errors import CaptureError
from campfire_fx.base.location import summary
from campfire_fx.base.patches import one_at_a_time
from campfire_fx.capture.configuration import Configuration
from campfire_fx.capture.execute import describe, fits, run
from campfire_fx.capture.given import model_of
from campfire_fx.capture.unfit import unfit, without_values

_BATCH = 2  # one would hide what depends on the batch: squeeze(), broadcasting
_LENGTHS = (1024, 16000, 224, 128, 4096, 32)
_SIZES = (224, 32, 64, 128, 299, 28, 256, 384, 96, 512)
_VOLUMES = ((16, 112, 112), (16, 224, 224), (32, 32, 32), (8, 64, 64), (64, 64, 64), (16, 28, 28))
_REAL_RUNS = 6


def examples_for(model: nn.Module, example_inputs: Any, examples: Any) -> list[Call]:
    """Return one example or several, each as (positional, keyword), see `example_for`.

    Raises CaptureError where both are given, or `examples` is no list of inputs.
    """
    if examples is None:
        return [example_for(model, example_inputs)]
    if example_inputs is not None:
        raise CaptureError("examples: example_inputs is given, too. Put it into the list, and give examples alone.")
    if not isinstance(examples, list):
        raise CaptureError(
            f"examples: this is a {type(examples).__name__}. Give a list of example inputs, each a tensor, a tuple of "
            "positional or a dict of keyword arguments."
        )
    if not examples:
        raise CaptureError("examples: the list is empty. Give at least one example input, or leave it out.")
    for number, example in enumerate(examples):
        if example is None:
            raise CaptureError(f"examples: number {number + 1} is None. Give inputs that the model runs on.")
    return [example_for(model, example) for example in examples]


@one_at_a_time
def example_for(model: nn.Module, example_inputs: Any = None) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return example inputs as (positional, keyword).

    A tuple holds positional arguments, a dict keyword arguments, anything else is the only argument. None: guess from
    the first convolution or linear layer and the sizes that the model keeps among its attributes, taking the first
    guess that it runs on. Raises CaptureError where it runs on none.
    """
    model = model_of(model, needs_values=False)
    if example_inputs is None:
        return _guess(model)
    if isinstance(example_inputs, tuple):
        args, kwargs = example_inputs, {}
    elif isinstance(example_inputs, dict) and _is_keywords(model, example_inputs):
        args, kwargs = (), dict(example_inputs)
    else:
        args, kwargs = (example_inputs,), {}
    signature = inspect.signature(model.forward)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        told = unfit(args, kwargs) or f"{error}. Give example_inputs=... as it is called."
        raise CaptureError(f"Example inputs at {type(model).__name__}.forward{signature}: {told}") from error
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    if wrong := without_values((args, kwargs), device):
        raise CaptureError(f"Example inputs at {type(model).__name__}: {wrong}")
    return args, kwargs


def _is_keywords(model: nn.Module, example: dict[Any, Any]) -> bool:
    """Return whether a dict holds the arguments, and is not the one argument itself."""
    if not all(isinstance(key, str) for key in example):
        return False
    try:
        inspect.signature(model.forward).bind(**example)
    except TypeError:
        return not fits(model, (example,), {})
    return True


def _guess(model: nn.Module) -> tuple[tuple[Any, ...], dict[str, Any]]:
    guesses = _guesses(model)
    fitting = (args for args in guesses if fits(model, args, {}))
    first = next(fitting, None)
    if first is not None:
        # Some heads that only training uses need larger images.
        in_training = (args for args in itertools.chain((first,), fitting) if fits(model, args, {}, training=True))
        return _filled(model, next(in_training, first)), {}
    # What needs data to run (boxes, indices) shows only in a real run. Those take time: try few. A detector may take a
    # batch as well as the list of images that it is made for.
    reason = "it has no convolution and no linear layer to tell what it takes"
    few = list(itertools.islice(_guesses(model), _REAL_RUNS))
    for args in [a for a in few if isinstance(a[0], list)][:2] + [a for a in few if not isinstance(a[0], list)]:
        filled = _filled(model, args)
        try:
            run(model, filled, {})
        except CaptureError as error:
            reason = summary(error.__cause__ or error)
        else:
            return filled, {}
    tried = "; ".join(dict.fromkeys(describe(args, {}) for args in itertools.islice(_guesses(model), 8)))
    raise CaptureError(
        f"No example inputs at {type(model).__name__}: none were given, and none of the guesses runs "
        f"(tried {tried or 'none'}; error: {reason}). Give example_inputs=..."
    )


def _guesses(model: nn.Module) -> Iterator[tuple[Any, ...]]:
    """Yield arguments of plausible shapes, without data."""
    layer = _first_layer(model)
    if layer is None:
        return
    configuration = Configuration.of(model)
    for shape in _shapes(layer, configuration):
        yield from _arguments(model, torch.empty(shape, dtype=layer.weight.dtype, device="meta"))


def _filled(model: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return arguments with data: random, images of a list between 0 and 1, whole numbers zero."""
    device = _first_layer(model).weight.device

    def fill(meta: torch.Tensor) -> torch.Tensor:
        if device == meta.device:
            return meta
        if not meta.is_floating_point():
            return torch.zeros_like(meta, device=device)
        generator = torch.Generator().manual_seed(0)  # the same guess each time, and the user's generator left alone
        made = torch.rand if isinstance(args[0], list) else torch.randn
        return made(meta.shape, generator=generator).to(device=device, dtype=meta.dtype)

    filled: tuple[Any, ...] = map_tensors(args, fill)
    return filled


def _first_layer(model: nn.Module) -> Any:
    convolutions = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    layers = [m for m in model.modules() if isinstance(m, (*convolutions, nn.Linear, nn.LazyLinear))]
    return next((m for m in layers if isinstance(m, convolutions)), layers[0] if layers else None)


def _shapes(layer: Any, configuration: Configuration) -> Iterator[tuple[int, ...]]:
    """Yield plausible input shapes, the likeliest first."""
    if isinstance(layer, nn.Linear):
        yield from ((_BATCH, layer.in_features), (_BATCH, 16, layer.in_features))
        yield from ((_BATCH, *sizes) for sizes in _spatial(2, configuration))
        return
    dimensions = layer.weight.dim() - 2
    channels = dict.fromkeys((layer.in_channels, *configuration.channels, 3, 1))
    for count in channels:
        for sizes in _spatial(dimensions, configuration):
            yield (_BATCH, count, *sizes)


def _spatial(dimensions: int, configuration: Configuration) -> list[tuple[int, ...]]:
    if dimensions == 1:
        return list(dict.fromkeys([*configuration.spatial(1), *((length,) for length in _LENGTHS)]))
    if dimensions == 2:
        return list(dict.fromkeys([*configuration.spatial(2), *((size, size) for size in _SIZES)]))
    return list(dict.fromkeys([*configuration.spatial(3), *_VOLUMES]))


def _arguments(model: nn.Module, x: torch.Tensor) -> Iterator[tuple[Any, ...]]:
    """Yield ways to call forward with tensors like `x`: one for each required argument, or a list of images."""
    count = max(_required(model), 1)
    yield (x,) * count
    if count == 2:  # a step, a label: one number per sample
        yield (x, torch.zeros(len(x), dtype=torch.long, device=x.device))
    if count == 1 and x.dim() == 4:
        yield (list(x),)


def _required(model: nn.Module) -> int:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(model.forward).parameters.values()
    return sum(p.kind in kinds and p.default is inspect.Parameter.empty for p in parameters)
