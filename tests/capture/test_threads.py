"""One thread traces, others go on as before: what is patched acts on the tracing thread alone, and ends with it."""

from __future__ import annotations

import copy
import math
import pickle
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from random import uniform
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import campfire_fx
from campfire_fx.base.errors import CaptureError
from campfire_fx.capture import trace
from tests.capture.habits import Base
from tests.random_zeros import zero_filters

X = torch.randn(2, 3, 8, 8)


class Meanwhile(Base):
    """Runs something in another thread while it is traced, and waits for it."""

    def __init__(self, action: Callable[[], Any]) -> None:
        super().__init__()
        self.action = action

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        self.action()
        return x.relu() + torch.zeros(x.shape[0], 4, 1, 1)


OTHER = ThreadPoolExecutor(1)


def elsewhere(action: Callable[[], Any]) -> Any:
    """Run an action in another thread; return what it gave, or raise what it raised."""
    return OTHER.submit(action).result(60)


def traced_during(action: Callable[[], Any]) -> tuple[Any, list[str]]:
    """Trace a model that waits for an action in another thread; return its result, and the operations traced."""
    found: list[Any] = []
    elsewhere(lambda: None)  # the thread is there before the trace begins
    captured = trace(Meanwhile(lambda: found.append(elsewhere(action))), X)
    return found[0], [str(node.target) for node in captured.module.graph.nodes]


ALONE = [str(node.target) for node in trace(Meanwhile(lambda: None), X).module.graph.nodes]


def train_under_autocast() -> list[Tensor]:
    """Train a few steps under autocast, with dropout, from a seed; return the losses and the weights."""
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(288, 2)
    )
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    losses = []
    for _ in range(3):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = net(torch.randn(4, 3, 8, 8))
            assert out.dtype is torch.bfloat16
            loss = F.cross_entropy(out.float(), torch.randint(2, (4,)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return [*losses, *(p.detach().clone() for p in net.parameters())]


def test_training_under_autocast_elsewhere() -> None:
    alone = train_under_autocast()
    state = torch.get_rng_state()
    found, operations = traced_during(train_under_autocast)
    assert operations == ALONE
    assert all(map(torch.equal, found, alone))
    assert torch.equal(torch.get_rng_state(), state)  # what it drew is drawn: the trace has not wound it back


def use_what_is_patched() -> dict[str, Any]:
    shape = X.shape
    module = nn.Linear(3, 2)
    module.training = False
    module.extra = torch.ones(1)
    return {
        "size": pickle.loads(pickle.dumps(shape)) == shape and torch.Size is type(shape),
        "finfo": torch.finfo is type(torch.finfo(torch.float16)),
        "variable": torch.autograd.Variable(X) is not None and isinstance(X, torch.autograd.Variable),
        "tensor": torch.is_tensor(X) and not torch.is_tensor(3) and torch.is_tensor(torch.zeros(2)),
        "module": type(module(torch.ones(1, 3))) is Tensor and type(module.weight) is nn.Parameter,
        "mode": module.training is False,
        "math": math.floor(2.5) == 2 and max(1, 2) == 2 and len("ab") == 2 and int("3") == 3,
        "type": isinstance(3, int) and not isinstance(3.0, int) and type(len("abc")) is int,
        "numpy": np.zeros(1, dtype=int).dtype == np.int64 and np.zeros(1, dtype=float).dtype == np.float64,
        "dtype": torch.zeros(1, dtype=float).dtype is torch.float64,
        "pickle": pickle.loads(pickle.dumps((int, float))) == (int, float),
        "random": 0 <= random.random() < 1 and 0 <= np.random.rand() < 1,
        "grad": torch.is_grad_enabled(),
    }


def test_everything_that_is_patched_does_elsewhere_as_before() -> None:
    assert all(use_what_is_patched().values())
    found, operations = traced_during(use_what_is_patched)
    assert all(found.values()), found
    assert operations == ALONE


def patched() -> dict[str, Any]:
    """Return what traces replace, as it is now."""
    spaces = {"torch": torch, "math": math, "autograd": torch.autograd, "random": random, "here": None}
    scopes = {name: globals() if space is None else vars(space) for name, space in spaces.items()}
    classes = (torch.Tensor, nn.Module, torch.autocast, torch.autograd.Function)
    held = {f"{name}.{key}": value for name, scope in scopes.items() for key, value in scope.items()}
    held |= {f"{cls.__name__}.{key}": value for cls in classes for key, value in vars(cls).items()}
    return held | {name: type(space) for name, space in spaces.items()}


def dead_net(seed: int) -> Any:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()
    zero_filters(net[0], (1, 2, seed))
    return net


def test_two_shrinks_at_once_and_nothing_stays_patched() -> None:
    before = patched()
    nets = [dead_net(seed) for seed in (3, 4, 5)]
    gate = threading.Barrier(len(nets))
    slims: dict[int, Any] = {}

    def shrink(number: int) -> None:
        for _ in range(2):
            gate.wait(60)
            slims[number] = campfire_fx.shrink(nets[number], X)

    threads = [threading.Thread(target=shrink, args=(number,)) for number in range(len(nets))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(slims) == len(nets)
    for number, net in enumerate(nets):
        torch.testing.assert_close(slims[number](X), net(X))
        assert slims[number].get_submodule("0").out_channels == 5
    now = patched()
    assert [key for key in before if now[key] is not before[key]] == [] and now.keys() == before.keys()


def test_who_wants_to_trace_too_waits() -> None:
    net, found, waited = dead_net(3), [], []
    other = threading.Thread(target=lambda: found.append(campfire_fx.shrink(net, X)))

    def begin() -> None:
        other.start()
        other.join(0.3)
        waited.append(other.is_alive())

    trace(Meanwhile(begin), X)
    other.join(60)
    assert waited == [True] and found[0].get_submodule("0").out_channels == 5


def test_a_trace_within_a_trace_and_a_failed_one_put_all_back() -> None:
    before = patched()

    def fail() -> None:
        trace(dead_net(3), X)
        raise ValueError("no further")

    with pytest.raises(CaptureError, match="no further"):
        trace(Meanwhile(fail), X)
    now = patched()
    assert [key for key in before if now[key] is not before[key]] == []


KEPT: dict[str, Any] = {}


class Importing(Base):
    """Imports by name while it is traced, and keeps what it got."""

    def forward(self, x: Tensor) -> Tensor:
        from torch import is_tensor, zeros

        KEPT.update(zeros=zeros, is_tensor=is_tensor, call=nn.Module.__call__, enter=torch.autocast.__enter__)
        return self.conv(x)


def test_what_is_imported_during_a_trace_outlives_it() -> None:
    trace(Importing(), X)
    assert type(KEPT["zeros"](3)) is Tensor and KEPT["is_tensor"](X)
    assert type(KEPT["call"](nn.ReLU(), X)) is Tensor
    context = torch.autocast("cpu", dtype=torch.bfloat16)
    KEPT["enter"](context)
    assert torch.is_autocast_enabled("cpu")
    context.__exit__(None, None, None)


def test_a_draw_is_told_from_draws_of_another_thread() -> None:
    state = random.getstate()
    _, operations = traced_during(lambda: (random.random(), np.random.rand(), torch.rand(2)))
    assert operations == ALONE and random.getstate() != state
    stop = threading.Event()
    busy = threading.Thread(target=stop.wait)
    busy.start()
    try:
        with pytest.raises(CaptureError, match=r"Random numbers at test_threads.py:\d+: Meanwhile.forward draws them"):
            trace(Meanwhile(lambda: uniform(1, 2)), X)
        with pytest.raises(CaptureError, match="Random numbers"):
            trace(Meanwhile(copy.copy(PLAIN).uniform_), X)
    finally:
        stop.set()
        busy.join()


PLAIN = torch.zeros(2)
