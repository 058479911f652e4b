"""Measure a model: parameters, bytes, multiply-accumulates and latency."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils.hooks import RemovableHandle

from campfire_fx.base.compat import TorchDispatchMode, fake_tensor_mode, packet_of, pytree, unsafe_view
from campfire_fx.base.copies import private_copy
from campfire_fx.base.records import Record
from campfire_fx.base.timing import in_turns
from campfire_fx.cost.time_ratio import TimeRatio, time_ratio
from campfire_fx.layers.masked import MaskedLayer

_FEWEST = 7  # timed calls: a ratio has an interval from six on


Hook = tuple[nn.Module, Callable[..., None]]


@dataclass(frozen=True, slots=True)
class MacCount(Record):
    """Multiply-accumulates (MACs) of one call.

    Attributes:
        total: of the whole model.
        per_layer: path of each module that multiplies -> its own MACs.
        not_counted: name of each other operation that computes -> how often it ran. Their cost is not in `total`.
    """

    total: int
    per_layer: dict[str, int]
    not_counted: dict[str, int]


@dataclass(frozen=True, slots=True)
class Latency(Record):
    """Time of one call, in milliseconds: the median and the middle half of `repeats` calls.

    `ratio`: over the time of the model that it was timed in turns with; None of that one itself.
    """

    median_ms: float
    low_ms: float
    high_ms: float
    repeats: int
    ratio: TimeRatio | None = None


def parameters(model: nn.Module) -> int:
    """Return how many parameters a model has, shared ones once."""
    return sum(p.numel() for p in model.parameters())


def zero_weights(model: nn.Module) -> tuple[int, int]:
    """Count the weights of layers that are zero, and all of them; vectors (biases, norms) do not count."""
    weights = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    return sum(w.numel() - int(w.count_nonzero()) for w in weights), sum(w.numel() for w in weights)


def size_bytes(model: nn.Module) -> int:
    """Return how many bytes its parameters and buffers take, shared ones once; masks are tools, and do not count."""
    masks = {id(module.mask) for module in model.modules() if isinstance(module, MaskedLayer)}
    tensors = {id(t): t for t in (*model.parameters(), *model.buffers()) if id(t) not in masks}
    return sum(t.numel() * t.element_size() for t in tensors.values())


def one_sample(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Cut example inputs to a batch of one, so that what a call costs is told as people know it.

    They stay as they are where it is not plain that the first dimension is a batch: tensors inside lists, as detectors
    take them, tensors of different first sizes, or a model that does not run on one sample.
    """
    inputs = (*args, *kwargs.values())
    tensors = [value for value in inputs if isinstance(value, Tensor)]
    if len(tensors) < len(inputs) or len({value.shape[:1] for value in tensors}) != 1 or tensors[0].ndim < 2:
        return args, kwargs
    cut = tuple(value[:1] for value in args), {name: value[:1] for name, value in kwargs.items()}
    try:
        with torch.no_grad():
            private_copy(model).eval()(*cut[0], **cut[1])
    except Exception:  # noqa: BLE001  whatever a model says about a size that it cannot take
        return args, kwargs
    return cut


def macs_noting(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None, hooks: Iterable[Hook], seen: dict[str, Any]
) -> MacCount:
    """Count as `macs` does, with forward hooks that note what they see.

    Args:
        model: any model; its hooks are gone afterwards.
        args: positional inputs.
        kwargs: inputs by name.
        hooks: a module, and what `register_forward_hook` takes with `with_kwargs`.
        seen: what the hooks write into. A run that fails on fake tensors is repeated on real ones: each begins empty.
    """
    handles = [module.register_forward_hook(hook, with_kwargs=True) for module, hook in hooks]
    handles.append(model.register_forward_pre_hook(lambda *_: seen.clear()))
    try:
        return macs(model, args, kwargs)
    finally:
        for handle in handles:
            handle.remove()


def macs(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> MacCount:
    """Count the multiply-accumulates of one call in evaluation mode, as half of torch's own FLOP count.

    Runs on fake tensors, which compute nothing; a model that needs real values is run for real. What runs is a copy,
    because some keep what they have seen.
    """
    with torch.no_grad():
        try:
            copied = private_copy(model).eval()
            mode = fake_tensor_mode(allow_non_fake_inputs=True)
            fake = pytree.tree_map(lambda v: mode.from_tensor(v) if isinstance(v, Tensor) else v, (args, kwargs or {}))
            with mode:
                return _count(copied, *fake)
        except Exception:  # noqa: BLE001  detection models decide by values
            return _count(private_copy(model).eval(), args, kwargs or {})


def _count(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> MacCount:
    from torch.utils.flop_counter import FlopCounterMode  # slow to load

    counter = FlopCounterMode(display=False)
    counter.mod_tracker = _Running(model)  # type: ignore[assignment]
    others = OperationCount(counter.flop_registry)
    with others, counter:
        model(*args, **kwargs)
    totals = {str(k): sum(v.values()) // 2 for k, v in counter.get_flop_counts().items() if k not in ("Global", "")}
    outer = {path[:end] for path in totals for end, character in enumerate(path) if character == "."}
    layers = {path: count for path, count in totals.items() if path not in outer}
    return MacCount(counter.get_total_flops() // 2, layers, dict(others.seen))


class _Running:
    """The paths of a model's modules that are running, for a FLOP counter.

    Torch's own tracker follows the backward pass too, and raises where a module is given a parameter.
    """

    def __init__(self, model: nn.Module) -> None:
        self._paths = {id(module): path for path, module in model.named_modules()}
        self._stack: list[str] = []
        self._hooks: list[RemovableHandle] = []

    @property
    def parents(self) -> set[str]:
        """The paths, and "Global"."""
        return {"Global", *self._stack}

    def __enter__(self) -> _Running:
        before = register_module_forward_pre_hook(self._begin)
        self._hooks = [before, register_module_forward_hook(self._end, always_call=True)]
        return self

    def __exit__(self, *_error: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _begin(self, module: nn.Module, _inputs: object) -> None:
        if id(module) in self._paths:
            self._stack.append(self._paths[id(module)])

    def _end(self, module: nn.Module, _inputs: object, _output: object) -> None:
        if id(module) in self._paths and self._stack:
            self._stack.pop()


class OperationCount(TorchDispatchMode):
    """Counts in `seen` the operations that run, by name, without those that only look at memory.

    Args:
        known: operations that are not counted, such as those that a FLOP counter has a formula for.
    """

    def __init__(self, known: Container[Any] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._known = known
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet = packet_of(func)
        if packet not in self._known and not func.is_view and packet not in _FREE and func.namespace != "prim":
            self.seen[str(packet).removeprefix("aten.")] += 1
        return func(*args, **(kwargs or {}))


_aten = torch.ops.aten
_FREE = {_aten.detach, _aten.clone, _aten.empty, _aten.zeros, _aten.ones, _aten.empty_like, unsafe_view}


def latency(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None, *, repeats: int = 20
) -> Latency:
    """Time calls of one model in evaluation mode."""
    return latencies({"": model}, args, kwargs, repeats=repeats)[""]


def latencies(
    models: Mapping[str, nn.Module],
    args: tuple[Any, ...],
    kwargs: dict[str, Any] | None = None,
    *,
    repeats: int = 20,
    enough: float = math.inf,
) -> dict[str, Latency]:
    """Time several models on one input, called in turns so that a busy machine slows all of them alike.

    Args:
        models: by name; the others are compared with the first.
        args: of a call.
        kwargs: of a call.
        repeats: calls of each that are timed.
        enough: seconds after which fewer do, but seven, from which a ratio can be told.
    """
    copies = {name: private_copy(model).eval() for name, model in models.items()}
    with torch.no_grad():
        runs = [partial(model, *args, **(kwargs or {})) for model in copies.values()]
        device = device_of((args, kwargs))
        times = in_turns(runs, device, least=min(repeats, _FEWEST), most=repeats, enough=enough)
    return compared(copies, times)


def compared(names: Iterable[str], times: Sequence[Sequence[float]], *, beside: int = 0) -> dict[str, Latency]:
    """Return by name what `in_turns` took, in seconds; the others are compared with the one of number `beside`."""
    return {
        name: latency_of(taken, beside=None if number == beside else times[beside])
        for number, (name, taken) in enumerate(zip(names, times, strict=True))
    }


def device_of(inputs: object) -> torch.device:
    """Return the GPU that one of the tensors in nested inputs is on; the CPU where none is."""
    tensors = [leaf for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, Tensor)]
    return next((tensor.device for tensor in tensors if tensor.is_cuda), torch.device("cpu"))


def latency_of(seconds: Sequence[float], *, beside: Sequence[float] | None = None) -> Latency:
    """Return the median and the middle half of some calls' times, `beside` those of a model called in turns with it."""
    values = [1e3 * took for took in seconds]
    ratio = None if beside is None else time_ratio(seconds, beside)
    if len(values) < 2:
        return Latency(values[0], values[0], values[0], 1, ratio)
    low, median, high = statistics.quantiles(values, n=4)
    return Latency(median, low, high, len(values), ratio)
