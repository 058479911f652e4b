"""`shrink` on state_dicts of any origin, `export` on what it wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import campfire_fx
from campfire_fx.app.train.networks import resnet8
from campfire_fx.cost.measure import macs

MODEL = "campfire_fx.app.train.networks:resnet8"
ARGUMENTS = ("--model", MODEL, "--option", "channels=1", "--example", "1x1x16x16")


@pytest.fixture
def pruned(tmp_path: Path) -> nn.Module:
    """A network with half the filters of one inner convolution pruned, saved with its masks."""
    network = resnet8(channels=1)
    prune.ln_structured(network.layer2[0].conv1, "weight", amount=0.5, n=2, dim=0)
    torch.save({"state_dict": network.state_dict()}, tmp_path / "weights.pt")
    return network.eval().requires_grad_(False)


def test_masks_of_torch_prune_are_removed(run, pruned: nn.Module, tmp_path: Path) -> None:
    result = run("shrink", "weights.pt", *ARGUMENTS)
    assert result.exit_code == 0, result.stderr
    assert "weights-slim.safetensors" in result.stdout
    slim = campfire_fx.load(tmp_path / "weights-slim.safetensors").requires_grad_(False)
    assert slim.get_parameter("layer2.0.conv1.weight").shape == (16, 16, 3, 3)
    x = torch.randn(2, 1, 16, 16)
    expected = pruned(x)
    assert float((slim(x) - expected).abs().max() / expected.abs().max()) < 1e-5


def test_round_to_keeps_some(run, pruned: nn.Module) -> None:
    result = run("shrink", "weights.pt", *ARGUMENTS, "--round-to", 12, "--json")
    facts = json.loads(result.stdout)
    layer = next(layer for layer in facts["layers"] if layer["name"] == "layer2.0.conv1")
    assert layer["outputs"] == [32, 24]
    assert facts["parameters"]["after"] < facts["parameters"]["before"] == sum(p.numel() for p in pruned.parameters())


def test_columns_are_measured_when_asked_for(run, pruned: nn.Module) -> None:
    state = torch.load("weights.pt")
    state["state_dict"]["layer1.0.conv2.weight"][:, 2:] = 0
    state["state_dict"]["layer1.0.conv2.weight"][:, 0, 1] = 0
    torch.save(state, "weights.pt")
    (change,) = json.loads(run("shrink", "weights.pt", *ARGUMENTS, "--columns", "--json").stdout)["columns"]
    assert change["name"] == "layer1.0.conv2" and change["dense_ms"] > 0
    assert json.loads(run("shrink", "weights.pt", *ARGUMENTS, "--json").stdout)["columns"] == []


def test_groups_are_measured_when_asked_for(run, pruned: nn.Module) -> None:
    state = torch.load("weights.pt")
    weight = state["state_dict"]["layer1.0.conv2.weight"]
    weight[::2, : len(weight) // 2] = weight[1::2, len(weight) // 2 :] = 0
    torch.save(state, "weights.pt")
    (change,) = json.loads(run("shrink", "weights.pt", *ARGUMENTS, "--groups", "--json").stdout)["groups"]
    assert change["name"] == "layer1.0.conv2" and change["dense_ms"] > 0
    assert json.loads(run("shrink", "weights.pt", *ARGUMENTS, "--json").stdout)["groups"] == []


def test_norms_are_folded_when_asked_for(run, pruned: nn.Module) -> None:
    facts = json.loads(run("shrink", "weights.pt", *ARGUMENTS, "--fold-norms", "--json").stdout)
    assert {"name": "bn1", "layer": "conv1", "reason": ""} in facts["norms"] and facts["difference"] < 1e-5
    slim = campfire_fx.load("weights-slim.safetensors")
    assert not any(isinstance(module, nn.BatchNorm2d) for module in slim.modules())
    assert json.loads(run("shrink", "weights.pt", *ARGUMENTS, "--json").stdout)["norms"] == []


def test_export_tells_what_it_wrote(run, pruned: nn.Module) -> None:
    run("shrink", "weights.pt", *ARGUMENTS)
    result = run("export", "weights-slim.safetensors", "slim.onnx", "--example", "1x1x16x16", "--json")
    assert result.exit_code == 0, result.stderr
    facts = json.loads(result.stdout)
    assert facts["format"] == "onnx"
    assert facts["bytes"] == Path("slim.onnx").stat().st_size
    assert facts["difference"] < 1e-5


def test_an_onnx_file_is_a_source(run, pruned: nn.Module, tmp_path: Path) -> None:
    run("shrink", "weights.pt", *ARGUMENTS, "--output", "slim.onnx")
    result = run("export", "slim.onnx", "slim.pt2")
    assert result.exit_code == 0, result.stderr
    x = torch.randn(1, 1, 16, 16)
    torch.testing.assert_close(campfire_fx.load(tmp_path / "slim.pt2")(x), pruned(x), rtol=1e-4, atol=1e-5)


def test_a_bare_state_needs_its_model(run, pruned: nn.Module) -> None:
    result = run("shrink", "weights.pt")
    assert result.exit_code == 2
    assert "Name the model with --model" in result.stderr


def test_norms_are_compensated_as_wished(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "normed_net.py").write_text(
        "from torch import nn\ndef small():\n"
        "    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(1, 8), nn.Conv2d(8, 4, 1))\n"
    )
    import normed_net  # type: ignore[import-not-found]

    network = normed_net.small()
    with torch.no_grad():
        network[0].weight[:4] = 0
    torch.save(network.state_dict(), "normed.pt")
    arguments = ("shrink", "normed.pt", "--model", "normed_net:small", "--example", "1x3x8x8", "--json", "--compensate")
    left = {w: json.loads(run(*arguments, w).stdout)["layers"][0]["outputs"][1] for w in ("never", "auto", "always")}
    assert left == {"never": 8, "auto": 8, "always": 6}


def test_a_ckpt_of_another_trainer_needs_its_model(run, pruned: nn.Module) -> None:
    state = {f"model.{name}": value for name, value in torch.load("weights.pt")["state_dict"].items()}
    torch.save({"state_dict": state, "pytorch-lightning_version": "2.0"}, "last.ckpt")
    result = run("shrink", "last.ckpt", *ARGUMENTS, "--json")
    assert result.exit_code == 0 and json.loads(result.stdout)["parameters"]["after"] < 78042
    refused = run("shrink", "last.ckpt")
    assert refused.exit_code == 2 and "it holds a bare state_dict" in refused.stderr and "--model" in refused.stderr


def test_a_state_dict_is_exported_with_its_model(run, pruned: nn.Module, tmp_path: Path) -> None:
    result = run("export", "weights.pt", "here.safetensors", *ARGUMENTS)
    assert result.exit_code == 0, result.stderr
    again = run("export", "here.safetensors", "here.pt2", "--example", "1x1x20x12")
    assert again.exit_code == 0, again.stderr
    last = run("export", "here.pt2", "here.onnx", "--json")  # the shape of the example is the file's
    assert last.exit_code == 0, last.stderr
    found = campfire_fx.load(tmp_path / "here.pt2").example[0][0]
    assert found.shape in {(1, 1, 20, 12), (2, 1, 20, 12)}
    x = torch.randn(2, 1, 16, 16)
    torch.testing.assert_close(campfire_fx.load(tmp_path / "here.onnx")(x), pruned(x), rtol=1e-4, atol=1e-5)


def test_a_target_zeroes_channels_first(run, pruned: nn.Module, tmp_path: Path) -> None:
    result = run("shrink", "weights.pt", *ARGUMENTS, "--target", "macs=0.5", "--set", "score=l2", "--json")
    assert result.exit_code == 0, result.stderr
    facts = json.loads(result.stdout)
    assert facts["moved"] > 0.01 and facts["difference"] < 1e-5
    slim = campfire_fx.load(tmp_path / "weights-slim.safetensors")
    x = torch.randn(1, 1, 16, 16)
    assert macs(slim, (x,)).total <= 0.5 * macs(resnet8(channels=1), (x,)).total
    refused = run("shrink", "weights.pt", *ARGUMENTS, "--target", "macs=1.5")
    assert refused.exit_code == 2 and "macs" in refused.stderr


def test_a_whole_model_is_loaded_only_if_it_is_trusted(run, pruned: nn.Module) -> None:
    prune.remove(pruned.layer2[0].conv1, "weight")
    torch.save(pruned, "whole.pt")
    refused = run("shrink", "whole.pt", "--example", "1x1x16x16")
    assert refused.exit_code == 2 and "loading it runs code" in refused.stderr and "--trust" in refused.stderr
    result = run("shrink", "whole.pt", "--example", "1x1x16x16", "--trust", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["parameters"]["after"] < sum(p.numel() for p in pruned.parameters())
