"""Models of timm and transformers by name, and their own weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import campfire_fx
from campfire_fx import TrainError
from campfire_fx.app.cli.networks import network_of
from campfire_fx.app.train.models import build_model
from campfire_fx.app.train.trained import find_start


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small ResNet of five classes, as `save_pretrained` writes it."""
    pytest.importorskip("transformers")
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=5)
    torch.manual_seed(0)
    ResNetForImageClassification(config).save_pretrained(tmp_path / "net")
    described = {"size": {"shortest_edge": 48}, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.2, 0.2, 0.2]}
    (tmp_path / "net" / "preprocessor_config.json").write_text(json.dumps(described))
    return tmp_path / "net"


def test_a_model_of_transformers_is_a_classifier_of_images(folder: Path) -> None:
    network = build_model(f"hf:{folder}", classes=3, channels=1).eval()
    assert network(torch.randn(2, 1, 32, 32)).shape == (2, 3)
    assert "resnet.embedder.embedder.convolution.weight" in network.state_dict()
    with pytest.raises(TrainError, match="has no 'widht'"):
        build_model(f"hf:{folder}", {"widht": 3})
    with pytest.raises(TrainError, match="Give a folder of save_pretrained"):
        build_model("hf:no/such")


def test_its_own_weights_say_how_images_were_given(folder: Path) -> None:
    start = find_start(None, "DEFAULT", f"hf:{folder}", "resnet8")
    assert start is not None and start.images == {"image_size": 48, "augment": "crop"}
    weights = start.open(False)
    assert weights.mean == (0.5, 0.5, 0.5) and weights.source.endswith("model.safetensors")
    with pytest.raises(TrainError, match="or DEFAULT for those of hf"):
        find_start(None, "IMAGENET1K_V1", f"hf:{folder}", "resnet8")


def test_a_folder_is_shrunk_and_runs_without_transformers(folder: Path) -> None:
    network, example = network_of(folder, None, {})
    with torch.no_grad():
        network.get_parameter("resnet.encoder.stages.1.layers.0.layer.0.convolution.weight")[4:] = 0
    slim = campfire_fx.shrink(network, example)
    campfire_fx.export(slim, folder / "slim.safetensors")
    x = torch.randn(2, 3, 40, 40)
    expected = network(x).detach()
    torch.testing.assert_close(campfire_fx.load(folder / "slim.safetensors")(x), expected, rtol=1e-4, atol=1e-5)
    assert sum(p.numel() for p in slim.parameters()) < sum(p.numel() for p in network.parameters())
    (tmp := folder / "config.json").write_text(json.dumps({"architectures": ["BertModel"], "model_type": "bert"}))
    with pytest.raises(TrainError, match="cannot load it|does not read images"):
        network_of(tmp.parent, None, {})


def test_timm_by_name() -> None:
    pytest.importorskip("timm")
    network = build_model("timm:resnet10t", classes=3, channels=1)
    assert isinstance(network.get_classifier(), nn.Linear) and network.get_classifier().out_features == 3
    with pytest.raises(TrainError, match=r"no such model. Did you mean 'resnet10t'"):
        build_model("timm:resnet10")
    with pytest.raises(TrainError, match="timm cannot build it"):
        build_model("timm:resnet10t", {"widht": 3})
    start = find_start(None, "DEFAULT", "timm:resnet10t", "resnet8")
    assert start is not None and start.images["image_size"] == 176 and start.images["augment"] == "crop"
    with pytest.raises(TrainError, match="Give --download"):
        start.open(False)


def test_what_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name in ("timm:resnet18", "hf:some/net"):
        with pytest.raises(TrainError, match="not installed. Run pip install"):
            build_model(name)
