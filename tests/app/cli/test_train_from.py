"""`campfire-fx train` from trained weights: what starts from them, what is noted, how it resumes, what is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from campfire_fx.app.cli import training
from campfire_fx.app.runs.verdict import verdict
from campfire_fx.app.train import job, loop
from campfire_fx.app.train.checkpoint import read, restore
from campfire_fx.app.train.data import open_data
from campfire_fx.app.train.models import build_model
from campfire_fx.app.train.networks import resnet8
from campfire_fx.app.train.published import sha256_of
from campfire_fx.app.train.tally import accuracy
from campfire_fx.base.errors import TrainError
from tests.app.runs.small_run import make_run
from tests.app.train.published_weights import publish
from tests.app.train.test_resume import Killed, after_steps, kill

SMALL = ("--epochs", 2, "--batch", 8, "--threads", 1, "--device", "cpu", "--formats", "safetensors")


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


def weights(path: Path, classes: int = 2, channels: int = 3, seed: int = 11) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    state = resnet8(classes, channels).state_dict()
    torch.save({"model": state}, path)
    return state


def test_dense_and_sparse_start_from_a_run(run, photos: Path, tmp_path: Path, monkeypatch) -> None:
    assert run("train", "--data", photos, *SMALL, "--networks", "dense", "--output", "here").exit_code == 0
    began: dict[str, dict[str, Tensor]] = {}
    fit = job.fit

    def noted(network: Any, *arguments: Any, **words: Any) -> Any:
        began[words["title"]] = {name: value.clone() for name, value in network.state_dict().items()}
        return fit(network, *arguments, **words)

    monkeypatch.setattr(job, "fit", noted)
    result = run("train", "--data", photos, *SMALL, "--from", "here/dense.ckpt", "--output", "there")
    assert result.exit_code == 0, result.stderr
    first = read(tmp_path / "here/dense.ckpt").state
    for name, value in first.items():
        assert torch.equal(began["dense"][name], value) and torch.equal(began["sparse"][name], value), name
    assert not torch.equal(began["slim from scratch"]["conv1.weight"], first["conv1.weight"])
    assert "Starting from here/dense.ckpt (SHA-256 " in result.stdout
    assert "Dense and sparse started from here/dense.ckpt, slim from scratch from new weights." in result.stdout

    found = verdict(results(tmp_path / "there")["rows"])
    assert found is not None and " ".join(result.stdout.split()).endswith(f"{found.line}. {found.note}")
    settings, digest = results(tmp_path / "there")["settings"], sha256_of(tmp_path / "here/dense.ckpt")
    assert (settings["start"], settings["start_sha256"]) == ("here/dense.ckpt", digest)
    assert (settings["recipe"]["rate"], settings["recipe"]["era"]) == (0.03, [0, 1])
    with (tmp_path / "there/log.csv").open() as lines:
        rates = {row["network"]: float(row["rate"]) for row in csv.DictReader(lines) if row["epoch"] == "0"}
    assert rates["dense"] == rates["sparse"] == pytest.approx(rates["slim from scratch"] * 0.3)
    for name in ("dense", "sparse"):
        assert read(tmp_path / f"there/{name}.ckpt").start == {
            "source": "here/dense.ckpt", "sha256": digest, "replaced": ()
        }  # fmt: skip
    assert run("report", "there").exit_code == 0
    assert digest in (tmp_path / "there/report.html").read_text()


def test_options_override_what_trained_weights_get(run, photos: Path, tmp_path: Path) -> None:
    weights(tmp_path / "x.pth")
    given = ("--learning-rate", 0.05, "--era", "0:0", "--networks", "sparse", "--image-size", 12)
    result = run("train", "--data", photos, *SMALL, "--weights", "x.pth", *given, "--output", "here")
    assert result.exit_code == 0, result.stderr
    settings = results(tmp_path / "here")["settings"]
    assert (settings["recipe"]["rate"], settings["recipe"]["fresh_rate"], settings["image_size"]) == (0.05, None, 12)
    with (tmp_path / "here/log.csv").open() as lines:
        assert [row["sparsity"][:3] for row in csv.DictReader(lines)] == ["0.7", "0.7"]  # in one shot, before the first


@pytest.mark.parametrize("era", ["0:0", "1:1"])
def test_channels_go_in_one_shot(run, photos: Path, tmp_path: Path, era: str) -> None:
    weights(tmp_path / "x.pth")
    options = (*SMALL, "--networks", "sparse", "--regime", "channel", "--sparsity", 0.5, "--era", era)
    result = run("train", "--data", photos, *options, "--weights", "x.pth", "--output", "here")
    assert result.exit_code == 0, result.stderr
    found = {row["name"]: row["parameters"] for row in results(tmp_path / "here")["rows"]}
    assert found["slim"] < 0.4 * found["sparse"]


def test_killed_and_resumed_is_never_stopped_and_other_weights_are_refused(
    run, photos: Path, tmp_path: Path, monkeypatch
) -> None:
    weights(tmp_path / "x.pth", classes=5)
    weights(tmp_path / "y.pth", classes=5, seed=12)
    options = ("train", "--data", photos, *SMALL, "--checkpoint-every", 1, "--seed", 3)
    assert run(*options, "--weights", "x.pth", "--output", "whole").exit_code == 0
    killed = (*options, "--output", "killed")
    for steps in (1, 6):  # in dense, in sparse
        with monkeypatch.context() as patch:
            patch.setattr(loop, "seed_step", after_steps(steps, kill))
            with pytest.raises(Killed):
                run(*killed, "--weights", "x.pth", "--resume", "auto")
    refused = run(*killed, "--weights", "y.pth", "--resume", "auto")
    first, second = (sha256_of(tmp_path / name) for name in ("x.pth", "y.pth"))
    assert refused.exit_code == 2
    assert f"its run had weights of SHA-256 {first}, this one has {second}." in refused.stderr.replace("\n", "")
    assert run(*killed, "--resume", "auto").exit_code == 2  # nor none at all
    moved = (tmp_path / "x.pth").rename(tmp_path / "z.pth")
    assert run(*killed, "--weights", moved, "--resume", "auto").exit_code == 0
    for name in ("dense", "sparse"):
        found, expected = (read(tmp_path / folder / f"{name}.ckpt").state for folder in ("killed", "whole"))
        assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_torchvisions_weights_by_name(run, photos: Path, tmp_path: Path, monkeypatch) -> None:
    """Images are cut, resized and normalised as the weights say; a run from its checkpoint goes on so."""
    publish(monkeypatch, tmp_path / "hub", "squeezenet1_1", build_model("squeezenet1_1").state_dict())
    options = ("train", "--data", photos, *SMALL, "--epochs", 1, "--networks", "dense", "--workers", 0)
    smaller = ("--image-size", 40)
    result = run(*options, "--model", "squeezenet1_1", "--weights", "DEFAULT", *smaller, "--output", "here")
    assert result.exit_code == 0, result.stderr
    assert "Starting from SqueezeNet1_1_Weights.IMAGENET1K_V1 (SHA-256" in result.stdout
    assert "50 of 52 tensors are loaded; classifier.1 new, for 2 classes instead of 1,000." in result.stdout
    settings = results(tmp_path / "here")["settings"]
    assert (settings["image_size"], settings["recipe"]["resize"], settings["recipe"]["augment"]) == (40, None, "crop")
    assert settings["given"]["mean"] == [0.485, 0.456, 0.406]
    again = run(*options, "--from", "here/dense.ckpt", "--output", "there")
    assert again.exit_code == 0, again.stderr
    settings = results(tmp_path / "there")["settings"]
    assert (settings["image_size"], settings["recipe"]["augment"]) == (40, "crop")
    assert settings["given"]["std"] == [0.229, 0.224, 0.225] and settings["recipe"]["interpolation"] == "bilinear"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), (224, 256, "crop", "bilinear")),
        (("--model", "efficientnet_b0"), (224, 256, "crop", "bicubic")),
        (("--image-size", 160), (160, None, "crop", "bilinear")),
        (("--image-size", 160, "--resize", 170), (160, 170, "crop", "bilinear")),
        (("--augment", "shift"), (224, 256, "shift", "bilinear")),
        (("--data", "digits"), (224, 256, "shift", "bilinear")),  # in memory, and too small to cut
        (("--recipe", "resnet50-tiny-imagenet"), (224, 256, "crop", None)),
    ],
)
def test_images_are_given_as_torchvision_gives_them(run, monkeypatch, options: tuple[Any, ...], expected: Any) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(training, "train", lambda planned, **_: seen.append(planned))
    result = run("train", "--data", "photos", "--model", "resnet18", "--weights", "DEFAULT", *options)
    assert result.exit_code == 0, result.stderr
    where, plan = seen[0].where, seen[0].recipe
    assert (plan.image_size, plan.resize, plan.augment, plan.interpolation) == expected
    assert (where.image_size, where.resize, where.interpolation) == (expected[0], expected[1], expected[3])
    assert plan.rate == (0.001 if "--recipe" in options else 0.03)


@pytest.mark.parametrize(
    ("model", "options", "size", "told"),
    [
        ("resnet18", (), 224, "224 px, as usual for resnet18. --image-size overrides it."),
        ("inception_v3", (), 299, "299 px, as usual for inception_v3."),
        ("resnet50-v1", (), 224, "224 px, as usual for resnet50-v1."),
        ("timm:resnet10t", (), 176, "176 px, as usual for timm:resnet10t."),
        ("resnet18", ("--image-size", 40), 40, ""),
        ("resnet18", ("--data", "digits"), None, "16 px, as the data are read. --image-size overrides it."),
        ("resnet8", (), None, "10 px, as the data are read."),
    ],
)
def test_weights_that_do_not_say_what_their_images_are(
    run, photos: Path, tmp_path: Path, monkeypatch, model: str, options: Any, size: int | None, told: str
) -> None:
    if model.startswith("timm:"):
        pytest.importorskip("timm")
    weights(tmp_path / "x.pth")
    said: list[Any] = []

    def stop(_settings: Any, data: Any, recipe: Any, **_: Any) -> None:
        said.append((data, recipe))
        raise TrainError("enough")

    monkeypatch.setattr(job, "run", stop)
    result = run("train", "--data", photos, *SMALL, "--model", model, "--weights", "x.pth", *options)
    [(data, recipe)] = said
    assert recipe.image_size == size
    assert size is None or data.shape == (3, size, size)
    line = [line for line in result.stdout.splitlines() if "do not say the size" in line]
    assert bool(line) == bool(told) and told in " ".join(result.stdout.split())


def test_grey_images_in_colour_are_attacked_alike(run, tmp_path: Path) -> None:
    weights(tmp_path / "x.pth", classes=10)
    options = ("--weights", "x.pth", "--networks", "sparse", "--epochs", 1, "--batch", 512, "--image-size", 8)
    result = run("train", *options, "--formats", "safetensors", "--output", "here")
    assert result.exit_code == 0, result.stderr
    data = open_data("digits").given_as(3)
    assert restore(read(tmp_path / "here/sparse.ckpt"))(torch.zeros(1, *data.shape)).shape == (1, 10)
    attacked = run("attack", "here", "--epsilon", 0, "--json")
    assert attacked.exit_code == 0, attacked.stderr
    rows = {row["name"]: row["accuracy"] for row in results(tmp_path / "here")["rows"]}
    for curve in json.loads(attacked.stdout)["curves"]:
        assert curve["accuracy"][0]["value"] == rows[curve["name"]]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--from", "none.ckpt"], "Checkpoint at none.ckpt: there is no such file. Check the path."),
        (["--weights", "none.safetensors"], "Checkpoint at none.safetensors: there is no such file. Check the path."),
        (["--from", "x.pth", "--weights", "x.pth"], "--from and --weights: both name weights to start from. Give one"),
        (["--from", "x.pth"], "--from x.pth: it is no checkpoint of train. Give it as --weights, and its --model."),
        (["--from", "run"], "--from run: it is a folder. Give the file in it, as run/dense.ckpt."),
        (["--from", "run/sparse.ckpt"], "Weights at run/sparse.ckpt: their network is sparse. Give the dense.ckpt of"),
        (["--weights", "run/sparse.ckpt"], "Weights at run/sparse.ckpt: their network is sparse. Give the dense.ckpt"),
        (["--weights", "text.pth"], "Checkpoint at text.pth: it is not a file of torch.save, or holds more than"),
        (["--weights", "other.pth"], "State of resnet8: it does not fit the model (Missing key"),
        (
            ["--weights", "whole.pth", "--model", "resnet14"],
            "State of resnet14: it does not fit the model (Missing key",
        ),
        (["--weights", "DEFAULT"], "--weights DEFAULT: torchvision has no weights of resnet8. Give a file, or --model"),
        (["--weights", "x.pth", "--model", "resnet99"], "MODEL resnet99: torchvision has no such model. Did you mean"),
    ],
)
def test_what_is_no_start_is_refused(run, tmp_path: Path, options: list[str], told: str) -> None:
    make_run(tmp_path / "run")
    weights(tmp_path / "x.pth", 10, 1)
    (tmp_path / "text.pth").write_text("weights")
    torch.save({"a": torch.ones(2)}, tmp_path / "other.pth")
    torch.save(resnet8(10, 1), tmp_path / "whole.pth")  # read without running what it brings, but of another network
    result = run("train", *SMALL, *options)
    assert result.exit_code == 2
    assert f"Error: {told}" in " ".join(result.stderr.split())
    assert len(result.stderr.strip().splitlines()) <= 4


def test_a_whole_model_that_was_pickled_is_read_without_its_code(run, photos: Path, tmp_path: Path) -> None:
    network = resnet8(2)
    torch.save(network, tmp_path / "whole.pth")
    result = run("train", "--data", photos, *SMALL, "--networks", "dense", "--weights", "whole.pth", "--output", "here")
    assert result.exit_code == 0, result.stderr
    assert "all 47 tensors are loaded" in result.stdout
    data = open_data(str(photos))
    trained = restore(read(tmp_path / "here/dense.ckpt"))
    assert accuracy(trained, data.test, data) == results(tmp_path / "here")["rows"][0]["accuracy"]


def test_the_commands_of_the_page_find_what_they_name(run, tmp_path: Path, monkeypatch) -> None:
    page = (Path(__file__).parents[3] / "docs" / "training.md").read_text(encoding="utf-8")
    commands = [line.split()[1:] for line in page.splitlines() if line.startswith("campfire-fx train")]
    assert len(commands) == 6
    make_run(tmp_path / "runs/digits")
    weights(tmp_path / "best.pth")
    publish(monkeypatch, tmp_path / "hub", "resnet18", build_model("resnet18").state_dict())
    found: list[tuple[str, float] | None] = []

    def trained(planned: Any, **_: Any) -> None:
        start = planned.start
        found.append(None if start is None else (start.open(planned.where.download).source, planned.recipe.rate))

    monkeypatch.setattr(training, "train", trained)
    for command in commands:
        result = run(*command)
        assert result.exit_code == 0, result.stderr
    ours, theirs = ("runs/digits/dense.ckpt", 0.03), ("ResNet18_Weights.IMAGENET1K_V1", 0.03)
    assert found == [None, ours, ours, theirs, theirs, ("best.pth", 0.03)]
