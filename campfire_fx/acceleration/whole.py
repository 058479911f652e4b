"""The whole network, timed before and after, in turns."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

from campfire_fx.analysis.captured import Call
from campfire_fx.base.copies import private_copy
from campfire_fx.base.timing import in_turns
from campfire_fx.cost.measure import Latency, latency_of

DENSE, CHANNELS_LAST, ACCELERATED = "dense", "dense, channels last", "accelerated"
_LEAST, _MOST, _ENOUGH = 5, 100, 3.0  # rounds, seconds


def whole_times(dense: nn.Module, accelerated: nn.Module, calls: list[Call]) -> dict[str, Latency]:
    """Return the time of all examples: dense in both memory formats of torch, and with the forms chosen."""
    last: Any = private_copy(dense)
    models = {DENSE: dense, CHANNELS_LAST: last.to(memory_format=torch.channels_last), ACCELERATED: accelerated}
    with torch.no_grad():
        runs = [partial(_run, model, calls) for model in models.values()]
        times = in_turns(runs, torch.device("cpu"), least=_LEAST, most=_MOST, enough=_ENOUGH)
    return {form: latency_of(taken) for form, taken in zip(models, times, strict=True)}


def _run(model: nn.Module, calls: list[Call]) -> None:
    for args, kwargs in calls:
        model(*args, **kwargs)
