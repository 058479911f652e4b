"""Time files and models side by side, in every runtime that is installed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from campfire_fx.base.copies import private_copy
from campfire_fx.base.errors import BenchError, CampfireError, ExportError
from campfire_fx.base.hints import did_you_mean, install_command
from campfire_fx.base.timing import in_turns
from campfire_fx.capture import example_for
from campfire_fx.cost.measure import compared
from campfire_fx.cost.runtime_times import BenchRecord, RuntimeTime
from campfire_fx.export.agreement import first_line
from campfire_fx.export.api import load
from campfire_fx.export.onnx_file import OnnxModel
from campfire_fx.export.runtimes import RUNTIMES, SUFFIXES, Runtime, Source, runtimes_of

_WARM = 2


def bench(
    sources: Source | str | Mapping[str, Source] | Iterable[Source | str],
    example_inputs: Tensor | tuple[Tensor, ...] | None = None,
    *,
    batch: int = 1,
    size: tuple[int, ...] | None = None,
    threads: int | None = 1,
    runtimes: Sequence[str] | None = None,
    repeats: int = 20,
) -> BenchRecord:
    """Time one call of each file and model in each runtime that opens it and is installed.

    A model, and a .pt2, .safetensors or .pt file: in torch as it is, and in torch.compile. An .onnx file: in ONNX
    Runtime and OpenVINO. An .mnn file: in MNN. All are called in turn, so that a busy machine slows them equally.
    With one thread, processor time is measured; otherwise time on the clock. What fails gets a row with the reason.

    Args:
        sources: a file or a model, or several; by name, or named after the file or the model's class.
        example_inputs: what they are called with, on the CPU. Default: the example that the first model carries, the
            sizes that the first .onnx file fixes, or a guess from the first model.
        batch: samples of a call, where no example is given.
        size: of the images, where no example is given.
        threads: of the CPU; None: one for each core at hand.
        runtimes: names out of `RUNTIMES`; None: all.
        repeats: calls of each that are timed.

    Raises:
        BenchError: a number or a runtime is wrong, or no runtime opens a file of that suffix, or nothing says which
            inputs to call them with.
    """
    named = dict(_named(sources))
    asked = asked_runtimes(runtimes)
    at_hand = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = at_hand if threads is None else threads
    for what, number in (("batch", batch), ("threads", threads), ("repeats", repeats)):
        if number < 1:
            raise BenchError(f"bench: {what}={number} is below 1. Give 1 or more.")
    args, guessed = _example(named, example_inputs, batch, size)
    with _threads(threads), torch.no_grad():
        opened = [row for name, source in named.items() for row in _opened(name, source, asked, args, threads)]
        runs = [call for _, call in opened if call is not None]
        clock = time.process_time if threads == 1 else time.perf_counter
        times = in_turns(runs, torch.device("cpu"), least=repeats, most=repeats, warm=_WARM, clock=clock)
    taken = iter(compared(map(str, range(len(times))), times).values())
    rows = [row if call is None else replace(row, latency=next(taken)) for row, call in opened]
    return BenchRecord(tuple(rows), tuple(tuple(tensor.shape) for tensor in args), threads, guessed)


def _named(sources: Source | str | Mapping[str, Source] | Iterable[Source | str]) -> Iterator[tuple[str, Source]]:
    if isinstance(sources, (str, Path, nn.Module)):
        sources = [sources]
    if not isinstance(sources, Iterable):
        raise BenchError(f"bench: a {type(sources).__name__} cannot be timed. Give files or models.")
    found = sources if isinstance(sources, Mapping) else _by_name(sources)
    if not found:
        raise BenchError("bench: there is nothing to time. Give files or models.")
    for name, source in found.items():
        if isinstance(source, Path) and not source.is_file():
            raise BenchError(f"cannot time {source}: there is no such file. Check the path.")
        if not runtimes_of(source):
            raise BenchError(f"cannot time {source}: no runtime opens it. Give files of {', '.join(SUFFIXES)}.")
        yield name, source


def _by_name(sources: Iterable[Source | str]) -> dict[str, Source]:
    """Name files after themselves and models after their class; of several with one name, each by its number, too."""
    given = [Path(source) if isinstance(source, str) else source for source in sources]
    names = [source.name if isinstance(source, Path) else type(source).__name__ for source in given]
    told = [f"{name} ({number})" if names.count(name) > 1 else name for number, name in enumerate(names, 1)]
    return dict(zip(told, given, strict=True))


def asked_runtimes(runtimes: Sequence[str] | None, *, installed: bool = False) -> list[str]:
    """Return the names of the runtimes asked for as `RUNTIMES` has them; None: all. `installed`: those alone.

    Raises:
        BenchError: there is no such runtime, or one that was named is not installed and has to be.
    """
    known = {name.lower(): name for name in RUNTIMES}
    for name in runtimes or ():
        if name.lower() not in known:
            raise BenchError(
                f"runtime '{name}' is not known.{did_you_mean(name, RUNTIMES)} There are {', '.join(RUNTIMES)}."
            )
    asked = list(RUNTIMES) if runtimes is None else [known[name.lower()] for name in runtimes]
    missing = [name for name in asked if installed and not RUNTIMES[name].installed]
    if missing and runtimes is not None:
        raise BenchError(f"runtime '{missing[0]}': {not_installed(RUNTIMES[missing[0]])}.")
    return [name for name in asked if name not in missing]


def not_installed(runtime: Runtime) -> str:
    """Say what installs a runtime."""
    return f"not installed: {install_command(runtime.extra)}"


def _example(
    named: Mapping[str, Source], given: Tensor | tuple[Tensor, ...] | None, batch: int, size: tuple[int, ...] | None
) -> tuple[tuple[Tensor, ...], bool]:
    """Return the inputs of a call, and whether nothing says their size."""
    if given is not None:
        tensors = given if isinstance(given, tuple) else (given,)
        return tuple(tensor.detach().cpu() for tensor in tensors), False
    for source in named.values():
        if (found := _told(source)) is not None:
            return sized(found[0], batch, size), found[1] and size is None
    raise BenchError(
        "bench: no file says which inputs it takes. Give example_inputs=..., as torch.randn(1, 3, 224, 224)."
    )


def _told(source: Source) -> tuple[tuple[Tensor, ...], bool] | None:
    """Return what a source says of its inputs, as tensors, and whether their size is a guess.

    None where it says nothing, or takes more than tensors.
    """
    if isinstance(source, Path) and source.suffix.lower() == ".onnx":
        return _told_by_onnx(source) if RUNTIMES["ONNX Runtime"].installed else None
    if isinstance(source, Path) and source.suffix.lower() == ".mnn":
        return None
    try:
        model = source if isinstance(source, nn.Module) else load(source)
        known = getattr(model, "example", None)
        args, kwargs = known or example_for(cast(nn.Module, model))
    except CampfireError:
        return None
    values = (*args, *kwargs.values())
    return (values, known is None) if all(isinstance(value, Tensor) for value in values) else None


def _told_by_onnx(path: Path) -> tuple[tuple[Tensor, ...], bool] | None:
    """Return tensors of the sizes that an .onnx file fixes; of those that are free, 1 sample and 224 pixels."""
    try:
        inputs = OnnxModel(path).session.get_inputs()
    except ExportError:  # it is said where the file is timed
        return None
    free = [[1 if axis == 0 else 224 for axis in range(len(one.shape))] for one in inputs]
    sizes = [
        [told if isinstance(told, int) else other for told, other in zip(one.shape, others, strict=True)]
        for one, others in zip(inputs, free, strict=True)
    ]
    guessed = any(not isinstance(told, int) for one in inputs for told in one.shape[2:])
    return (tuple(map(torch.randn, sizes)), guessed) if all(one.type == "tensor(float)" for one in inputs) else None


def sized(inputs: tuple[Tensor, ...], batch: int, size: tuple[int, ...] | None) -> tuple[Tensor, ...]:
    """Return random tensors like these, of so many samples, and images of a size (None: theirs); others as they are."""
    return tuple(_resized(tensor, batch, size) for tensor in inputs)


def _resized(tensor: Tensor, batch: int, size: tuple[int, ...] | None) -> Tensor:
    if tensor.dim() < 2 or not tensor.is_floating_point():
        return tensor
    space = tensor.shape[2:] if size is None else (size * (tensor.dim() - 2) if len(size) == 1 else size)
    if len(space) != tensor.dim() - 2:
        raise BenchError(f"bench: a size of {'x'.join(map(str, space))} does not fit an input of {tensor.dim()} axes.")
    return torch.randn(batch, tensor.shape[1], *space)


Opened = tuple[RuntimeTime, Callable[[], object] | None]


def _opened(name: str, source: Source, asked: Sequence[str], args: tuple[Any, ...], threads: int) -> Iterator[Opened]:
    """Open a source in each runtime, and call it once."""
    chosen = [runtime for runtime in runtimes_of(source) if runtime.name in asked]
    there = [runtime for runtime in chosen if runtime.installed]
    size = source.stat().st_size if isinstance(source, Path) else None
    if chosen and not there:
        yield RuntimeTime(name, chosen[0].name, None, size, not_installed(chosen[0])), None
    for runtime in there:
        yield _tried(RuntimeTime(name, runtime.told, None, size), runtime, source, args, threads)


def _tried(row: RuntimeTime, runtime: Runtime, source: Source, args: tuple[Any, ...], threads: int) -> Opened:
    try:
        model = runtime.open(_own(source) if isinstance(source, nn.Module) else source, args, threads)
        model(*args)
    except Exception as error:  # noqa: BLE001  every runtime has errors of its own; the others are still timed
        return RuntimeTime(row.name, row.runtime, None, row.bytes, first_line(error)), None
    return row, lambda: model(*args)


def _own(model: nn.Module) -> nn.Module:
    """Copy a model in evaluation mode; not by eval(), which what torch.export made refuses."""
    copied = private_copy(model)
    for module in copied.modules():
        module.training = False
    return copied


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
