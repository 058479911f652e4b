"""The whole network, timed before and after, in turns."""

from __future__ import annotations

import statistics
from functools import partial
from typing import Any

import torch
from torch import nn

from campfire_fx.analysis.captured import Call
from campfire_fx.base.copies import private_copy
from campfire_fx.base.timing import in_turns
from campfire_fx.cost.measure import Latency, compared

DENSE, CHANNELS_LAST, ACCELERATED = "dense", "dense, channels last", "accelerated"
_LEAST, _MOST, _ENOUGH = 5, 100, 3.0  # rounds, seconds


def whole_times(dense: nn.Module, accelerated: nn.Module, calls: list[Call]) -> dict[str, Latency]:
    """Return the time of all examples: dense in both memory formats of torch, and with the forms chosen.

    The faster of the dense ones is what the others are compared with.
    """
    last: Any = private_copy(dense)
    models = {DENSE: dense, CHANNELS_LAST: last.to(memory_format=torch.channels_last), ACCELERATED: accelerated}
    with torch.no_grad():
        runs = [partial(_run, model, calls) for model in models.values()]
        times = in_turns(runs, torch.device("cpu"), least=_LEAST, most=_MOST, enough=_ENOUGH)
    return compared(models, times, beside=min((0, 1), key=lambda form: statistics.median(times[form])))


def _run(model: nn.Module, calls: list[Call]) -> None:
    for args, kwargs in calls:
        model(*args, **kwargs)
