"""`campfire-fx train --freeze`: what is frozen ends as it began, to the bit; what cannot be frozen is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from campfire_fx.app.train import job, loop
from campfire_fx.app.train.checkpoint import read
from campfire_fx.app.train.frozen import Frozen, freeze
from campfire_fx.app.train.loop import make_optimizer
from campfire_fx.app.train.models import build_model
from campfire_fx.app.train.networks import resnet8
from campfire_fx.app.train.ranks import process_group
from campfire_fx.app.train.recipe import Recipe
from campfire_fx.base.errors import TrainError
from tests.app.train.test_resume import Killed, after_steps, kill

SMALL = (
    *("train", "--epochs", 2, "--batch", 8, "--threads", 1, "--device", "cpu", "--formats", "safetensors"),
    *("--weights", "x.pth", "--learning-rate", 0.2, "--weight-decay", 0.1),
)
EARLY = ("--freeze", "conv1", "--freeze", "bn1", "--freeze", "layer1")


@pytest.fixture
def start(tmp_path: Path) -> dict[str, Tensor]:
    """Weights in x.pth whose BatchNorms have seen something."""
    torch.manual_seed(11)
    network = resnet8(2, 3)
    for _ in range(3):
        network(torch.rand(8, 3, 10, 10) + 1)
    torch.save(network.state_dict(), tmp_path / "x.pth")
    return network.state_dict()


def moved(path: Path, start: dict[str, Tensor]) -> set[str]:
    """Return the layers of a checkpoint that are not what they were, to the bit."""
    state = read(path).state
    return {name.rpartition(".")[0] for name, value in start.items() if not torch.equal(state[name], value)}


@pytest.mark.parametrize(
    "options",
    [
        ("--optimizer", "adamw", "--regime", "filter", "--precision", "bfloat16", "--distill", 0.5),
        ("--target", "macs=0.8", "--reconfigure", "--era", "0:1"),
    ],
)
def test_frozen_layers_end_as_they_began(run, photos: Path, start, tmp_path: Path, options: Any) -> None:
    networks = () if options[:1] != ("--target",) else ("--networks", "sparse")
    result = run(*SMALL, "--data", photos, *EARLY, *options, *networks, "--output", "here")
    assert result.exit_code == 0, result.stderr
    assert "Frozen: 5,136 of 77," in result.stdout and "and the statistics of 3 norms." in result.stdout
    early = {name: value for name, value in start.items() if name.startswith(("conv1", "bn1", "layer1"))}
    assert any(name.endswith("running_mean") for name in early)
    for name in ("sparse",) if networks else ("dense", "sparse"):
        assert not moved(tmp_path / f"here/{name}.ckpt", early)
    if not networks:
        assert {"layer2.0.conv1", "layer2.0.bn1", "fc"} <= moved(tmp_path / "here/dense.ckpt", start)
    results = json.loads((tmp_path / "here/results.json").read_text())
    assert results["settings"]["freeze"] == ["conv1", "bn1", "layer1"]
    assert [row["name"] for row in results["rows"]][-1] == "slim"  # no new weights are frozen


def test_all_but_the_classifier(run, photos: Path, start, tmp_path: Path) -> None:
    result = run(*SMALL, "--data", photos, "--freeze", "backbone", "--networks", "dense", "--output", "here")
    assert result.exit_code == 0, result.stderr
    assert moved(tmp_path / "here/dense.ckpt", start) == {"fc"}
    assert "freeze: [backbone]" in (tmp_path / "here/config.yaml").read_text()
    other = run(*SMALL, "--data", photos, "--networks", "dense", "--output", "here", "--resume", "auto")
    assert other.exit_code == 2
    assert "its run had freeze ('backbone',), this one has None." in " ".join(other.stderr.split())


def test_killed_and_resumed_it_stays_frozen(run, photos: Path, start, tmp_path: Path, monkeypatch) -> None:
    options = (*SMALL, "--data", photos, *EARLY, "--networks", "sparse", "--checkpoint-every", 1)
    assert run(*options, "--output", "whole").exit_code == 0
    with monkeypatch.context() as patch:
        patch.setattr(loop, "seed_step", after_steps(3, kill))
        with pytest.raises(Killed):
            run(*options, "--output", "killed")
    assert run(*options, "--output", "killed", "--resume", "auto").exit_code == 0
    assert not moved(tmp_path / "killed/sparse.ckpt", read(tmp_path / "whole/sparse.ckpt").state)


def test_gradients_averaged_over_processes_leave_it_alone(tmp_path: Path) -> None:
    network = resnet8(2)
    frozen = freeze(network, ["layer1", "*bn*", "*downsample"], 2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = make_optimizer(network, Recipe(epochs=1, rate=0.2, decay=0.1))
    with process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1):
        wrapped = DistributedDataParallel(network)
        for _ in range(2):
            optimizer.zero_grad()
            wrapped(torch.rand(4, 3, 8, 8)).sum().backward()
            optimizer.step()
        del wrapped
    after = network.state_dict()
    stayed = {name.rpartition(".")[0] for name, value in before.items() if torch.equal(after[name], value)}
    assert stayed == {path for path in frozen.paths if f"{path}.weight" in before}


@pytest.mark.parametrize("name", ["timm:efficientnet_lite0", "hf:"])
def test_networks_of_other_libraries(name: str, tmp_path: Path) -> None:
    """Norms that are functions in the graph, too, keep their statistics."""
    if name == "hf:":
        transformers = pytest.importorskip("transformers")
        config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])
        transformers.ResNetForImageClassification(config).save_pretrained(tmp_path)
        name = f"hf:{tmp_path}"
    else:
        pytest.importorskip("timm")
    import campfire_fx

    network = build_model(name, classes=2, channels=3)
    frozen = freeze(network, ["backbone"], 2)
    head = next(path for path, layer in network.named_modules() if isinstance(layer, nn.Linear))
    assert {path for path, module in network.named_modules() if path not in frozen.paths} == {head}
    sparse = campfire_fx.sparsify(
        network, "unstructured", frozen=frozen.layers, example_inputs=torch.zeros(1, 3, 32, 32)
    )
    frozen.hold(sparse.train())
    before = {key: value.clone() for key, value in sparse.named_buffers() if "running" in key}
    images = torch.rand(4, 3, 32, 32)
    sparse(images).sum().backward()
    assert before and all(torch.equal(dict(sparse.named_buffers())[key], value) for key, value in before.items())
    assert {key for key, value in sparse.named_parameters() if value.grad is not None} == {
        f"{head}.weight",
        f"{head}.bias",
    }


@pytest.mark.parametrize(
    ("patterns", "told"),
    [
        (["layer9"], "--freeze layer9: no module with weights has such a path. Did you mean 'layer3'? campfire-fx"),
        (["conv1", "layers*"], "--freeze layers*: no module with weights has such a path. Did you mean 'layer"),
        (["backbon"], "--freeze backbon: no module with weights has such a path. Did you mean 'backbone'?"),
        (["*"], "--freeze *: nothing is left to train. Freeze less, as --freeze backbone does"),
        (["backbone", "fc"], "--freeze backbone --freeze fc: nothing is left to train."),
    ],
)
def test_what_cannot_be_frozen_is_refused(patterns: list[str], told: str) -> None:
    with pytest.raises(TrainError, match=re.escape(told)):
        freeze(resnet8(2), patterns, 2)


@pytest.mark.parametrize("options", [("--weights", "x.pth"), ()])
def test_frozen_new_weights_are_warned_of(run, photos: Path, start, monkeypatch, options: tuple[str, ...]) -> None:
    def stop(*_: Any, **_words: Any) -> None:
        raise TrainError("enough")

    monkeypatch.setattr(job, "run", stop)
    result = run("train", "--data", photos, "--freeze", "layer1", *options)
    assert ("Warning: --freeze keeps new weights" in result.stdout) == (not options)


def test_a_regime_without_a_layer_to_prune_says_so(run, photos: Path, start) -> None:
    result = run(*SMALL, "--data", photos, "--freeze", "backbone", "--regime", "filter", "--output", "here")
    assert result.exit_code == 2
    assert "this one because it is frozen. Freeze fewer layers." in " ".join(result.stderr.split())


def test_a_module_of_the_name_backbone_is_meant(run) -> None:
    network = nn.ModuleDict({"backbone": nn.Conv2d(3, 4, 1), "neck": nn.Conv2d(4, 4, 1), "head": nn.Linear(4, 2)})
    assert freeze(network, ["backbone"], 2).paths == {"backbone"}
    assert freeze(network, (), 2) == Frozen()
