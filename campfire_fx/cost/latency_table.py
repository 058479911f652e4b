"""Measure how long each layer of a model takes at smaller widths, on the machine at hand."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from campfire_fx.base.compat import pytree
from campfire_fx.base.copies import private_copy
from campfire_fx.base.disk.cache import cache_folder
from campfire_fx.base.processor import processor_name
from campfire_fx.cost.latency_cache import keep_times, kept_times
from campfire_fx.cost.latency_calls import LayerCall, ModelCalls, calls_of
from campfire_fx.cost.latency_points import Point, grid_of, measure, points_of, step_of
from campfire_fx.cost.latency_record import Floats, LatencyTable, LayerTimes, Setting, rising
from campfire_fx.cost.measure import device_of

_MANY = 50
_OPERATIONS = f"{_MANY} norms of one number"
"""What operations take that have nothing to do."""


def latency_table(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any] | None = None,
    *,
    cache: str | os.PathLike[str] | Literal[False] | None = None,
) -> LatencyTable:
    """Measure the layers of a model at several widths, and what a call takes beside them.

    All is timed in evaluation mode, without gradients, with the device, the threads, the batch, the data types, the
    memory format and the autocast at hand. Equal calls of layers are timed once.

    Args:
        model: any model, sparse ones too; what runs is a copy.
        args: positional inputs, of the batch that is wanted.
        kwargs: inputs by name.
        cache: the folder in which times are kept; None: the one that `CAMPFIRE_FX_CACHE` names, or the user's cache
            folder; False: all is measured anew, and nothing is kept.

    Raises:
        CostError: the model calls no convolution and no linear layer.
    """
    device = device_of((args, kwargs))
    setting = setting_of(device)
    folder = cache_folder() if cache is None else None if cache is False else Path(cache)
    calls = calls_of(model, args, kwargs)
    steps = {call: step_of(call, device) for call in chain.from_iterable(calls.layers.values())}
    times = {} if folder is None else kept_times(folder, setting)
    points = [point for point in points_of(steps) if point.key not in times]
    others: dict[str, Callable[[], object]] = {}
    if calls.digest not in times:
        others[calls.digest] = partial(private_copy(model).eval(), *args, **(kwargs or {}))
    if _OPERATIONS not in times:
        others[_OPERATIONS] = partial(_norms(device), torch.zeros(1, 1, 1, 1, device=device))
    fresh = measure(points, others, device)
    if folder is not None and fresh:
        keep_times(folder, setting, fresh)
    shapes = tuple(tuple(leaf.shape) for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor))
    return _table(calls, steps, {**times, **fresh}, setting, shapes)


def setting_of(device: torch.device) -> Setting:
    """Return what times depend on beside the model, as it is now."""
    gpu = device.type == "cuda"
    name = (
        torch.cuda.get_device_name(device) if gpu else f"{processor_name()} {torch.backends.cpu.get_cpu_capability()}"
    )
    switches = {
        "autocast": torch.is_autocast_enabled(device.type) and str(torch.get_autocast_dtype(device.type)),
        "products": torch.get_float32_matmul_precision(),
        "onednn": torch.backends.mkldnn.enabled,
        "cudnn": gpu
        and (torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32),
    }
    return Setting(name, torch.get_num_threads(), str(torch.__version__), str(switches))


def _norms(device: torch.device) -> nn.Module:
    return nn.Sequential(*(nn.BatchNorm2d(1, device=device) for _ in range(_MANY))).eval()


def _table(
    calls: ModelCalls,
    steps: Mapping[LayerCall, int],
    times: Mapping[str, float],
    setting: Setting,
    shapes: tuple[tuple[int, ...], ...],
) -> LatencyTable:
    """Put the times together; what the layers do not explain of the whole is the rest."""
    whole = times[calls.digest]
    grids = {path: _grid(called, steps[called[0]], times) for path, called in calls.layers.items()}
    explained = sum(float(grid[-1, -1]) for grid in grids.values())
    scale = min(1.0, whole / explained) if explained else 1.0  # a GPU overlaps what is timed one by one
    constant = min(calls.others * times[_OPERATIONS] / _MANY, whole - scale * explained)
    elements = sum(calls.elements.values())
    layers = tuple(
        _layer(path, called[0], steps[called[0]], calls.elements[path], scale * grids[path])
        for path, called in calls.layers.items()
    )
    per_element = 1e6 * (whole - scale * explained - constant) / elements
    first = next(iter(calls.layers.values()))[0]
    return LatencyTable(layers, whole, constant, max(0.0, per_element), setting, shapes, first.dtypes[1])


def _grid(called: tuple[LayerCall, ...], step: int, times: Mapping[str, float]) -> Floats:
    """Return the milliseconds of all calls of a layer over the widths tried."""
    rows, columns = grid_of(called[0], step)
    each = [[[times[Point(call, i, o).key] for o in columns] for i in rows] for call in called]
    return rising(np.array(each).sum(0))


def _layer(path: str, call: LayerCall, step: int, elements: int, ms: Floats) -> LayerTimes:
    rows, columns = grid_of(call, step)
    grid = tuple(tuple(row) for row in ms.tolist())
    return LayerTimes(path, call.operation, call.inputs, call.outputs, call.groups, step, elements, rows, columns, grid)
