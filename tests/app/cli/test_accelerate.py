"""`accelerate` on a state_dict, on what `shrink` wrote, and its file loaded again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import campfire_fx
from campfire_fx.app.train.networks import resnet8
from tests.acceleration.forced import needs_compiler, prefer
from tests.random_zeros import calibrate, random_zeros, randomise

MODEL = "campfire_fx.app.train.networks:resnet8"
ARGUMENTS = ("--model", MODEL, "--option", "channels=1")
EXAMPLE = ("--example", "1x1x16x16")


@pytest.fixture
def zeros(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """A network with many zeros, saved; every layer that can skip them is to do so."""
    prefer(monkeypatch)
    network = calibrate(random_zeros(randomise(resnet8(channels=1), 0)), torch.randn(2, 1, 16, 16))
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    return network.eval().requires_grad_(False)


@needs_compiler
def test_what_is_written_computes_the_same(run, zeros: nn.Module) -> None:
    result = run("accelerate", "weights.pt", *ARGUMENTS, *EXAMPLE, "--threads", torch.get_num_threads())
    assert result.exit_code == 0, result.stderr
    assert "Written: weights-fast.pt2" in result.stdout and "zeros skipped" in result.stdout
    fast = campfire_fx.load("weights-fast.pt2")
    for shape in ((1, 1, 16, 16), (3, 1, 20, 24)):
        x = torch.randn(shape)
        expected = zeros(x)
        assert float((fast(x) - expected).abs().max() / expected.abs().max()) < 1e-5


@needs_compiler
def test_a_slim_file_is_a_source(run, zeros: nn.Module) -> None:
    assert run("shrink", "weights.pt", *ARGUMENTS, *EXAMPLE, "--output", "slim.safetensors").exit_code == 0
    result = run("accelerate", "slim.safetensors", *EXAMPLE, "--output", "f.pt2", "--json")
    facts = json.loads(result.stdout)
    assert facts["file"] == "f.pt2" and facts["verification"]["difference"] < 1e-5
    assert {layer["form"] for layer in facts["layers"]} >= {"zeros skipped"}


def test_an_example_that_was_guessed_is_told() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()).eval()
    given = campfire_fx.accelerate(network, torch.randn(1, 1, 8, 8), verify=False)
    assert not given.report().acceleration.guessed and "guessed" not in str(given.report())
    guessed = campfire_fx.accelerate(network, verify=False)
    assert "(guessed: no example was given)." in " ".join(str(guessed.report()).split())
    slim = campfire_fx.shrink(network)
    assert campfire_fx.accelerate(slim, verify=False).report().acceleration.guessed


def test_other_formats_are_refused(run) -> None:
    result = run("accelerate", "weights.pt", "--output", "fast.onnx")
    assert result.exit_code == 2
    assert "an accelerated model is written as .pt2 alone" in result.stderr
