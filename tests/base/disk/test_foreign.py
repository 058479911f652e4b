"""Files from elsewhere: tensors come out, and nothing in the file is run."""

from __future__ import annotations

import argparse
import collections
import functools
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from campfire_fx.base.disk.archive import Unreadable, load_archive
from campfire_fx.base.disk.foreign import Inert, held_state, load_foreign


class Runs:
    """Runs a command where it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU())
        self.register_buffer("passing", torch.ones(2), persistent=False)
        self.hook = functools.partial(print, "hooked")


def test_what_is_no_tensor_is_replaced_and_the_rest_is_there(tmp_path: Path) -> None:
    content = {
        "model": nn.Linear(2, 2).state_dict(),
        "args": argparse.Namespace(lr=0.1, path=Path("x")),
        "loops": collections.defaultdict(list, {"a": [1]}),
        "last": collections.deque([1, 2]),
        "kind": torch.optim.SGD,
    }
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(Unreadable):
        load_archive(tmp_path / "x.pth")
    found = load_foreign(tmp_path / "x.pth")
    assert torch.equal(found["model"]["weight"], content["model"]["weight"])
    assert isinstance(found["args"], Inert) and found["args"].named == "argparse.Namespace"
    assert found["args"].held["lr"] == 0.1
    assert found["loops"] == {"a": [1]} and found["last"] == [1, 2]
    assert not isinstance(found["kind"], torch.optim.Optimizer)


def test_a_whole_model_gives_its_state_and_its_class_is_not_looked_up(tmp_path: Path) -> None:
    model = Net()
    torch.save(model, tmp_path / "x.pth")
    found = load_foreign(tmp_path / "x.pth")
    assert isinstance(found, Inert) and not isinstance(found, nn.Module)
    state = dict(held_state(found))
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_classes_that_the_process_lets_torch_look_up_are_not(tmp_path: Path) -> None:
    model = Net()
    torch.save(model, tmp_path / "x.pth")
    known = [nn.Sequential, nn.Conv2d, nn.BatchNorm2d]
    with torch.serialization.safe_globals(known):
        found = load_foreign(tmp_path / "x.pth")
        assert set(known) <= set(torch.serialization.get_safe_globals())
    assert dict(held_state(found)).keys() == model.state_dict().keys()


@pytest.mark.parametrize("function", ["system", "exec"])
def test_nothing_is_run(tmp_path: Path, function: str) -> None:
    trace = tmp_path / "trace"
    call = (os.system, f"touch {trace}") if function == "system" else (exec, f"open({str(trace)!r}, 'w')")
    torch.save({"weight": torch.ones(2), "x": Runs(*call)}, tmp_path / "x.pth")
    try:
        found = load_foreign(tmp_path / "x.pth")
    except Unreadable:
        found = {}
    assert not trace.exists() and all(isinstance(value, (torch.Tensor, Inert)) for value in found.values())


def test_what_is_no_such_file_is_named(tmp_path: Path) -> None:
    script = torch.jit.script(nn.ReLU())
    torch.jit.save(script, tmp_path / "script.pt")
    with pytest.raises(Unreadable, match="it is a TorchScript program, not a state_dict"):
        load_foreign(tmp_path / "script.pt")
    (tmp_path / "x.pth").write_bytes(b"nothing")
    with pytest.raises(Unreadable):
        load_foreign(tmp_path / "x.pth")
    whole = (tmp_path / "script.pt").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Unreadable):
        load_foreign(tmp_path / "cut.pth")
