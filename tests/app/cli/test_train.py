"""The main job, in small: every network trained, every file written, loaded and compared."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import campfire_fx
from campfire_fx.app.cli.training_run import useful_threads
from campfire_fx.app.train.checkpoint import read, restore
from campfire_fx.app.train.data import ImageData, open_data
from campfire_fx.app.train.recipe import Recipe
from campfire_fx.app.train.split import Split
from campfire_fx.app.train.tally import accuracy
from campfire_fx.base.disk.lock import alone_in
from campfire_fx.base.errors import TrainError
from tests.app.train.test_folders import write_image, write_tiny


@pytest.mark.slow
def test_train_then_shrink_then_export(run, tmp_path) -> None:
    result = run("train", "--epochs", 2, "--batch", 128, "--weight-decay", 0.2, "--threads", 1)
    assert result.exit_code == 0, result.stderr
    for text in ("dense", "sparse", "slim from scratch", "accuracy", "MACs", "slim.onnx", "449 of 449"):
        assert text in result.stdout

    folder = tmp_path / "runs" / "digits"
    outcome = json.loads((folder / "results.json").read_text())
    rows = {row["name"]: row for row in outcome["rows"]}
    assert list(rows) == ["dense", "sparse", "slim", "slim from scratch"]
    assert rows["slim"]["accuracy"] == rows["sparse"]["accuracy"]
    assert rows["slim"]["parameters"] == rows["slim from scratch"]["parameters"] < rows["dense"]["parameters"]
    assert rows["slim"]["macs"] < rows["dense"]["macs"] == rows["sparse"]["macs"]
    assert rows["slim"]["bytes"] < rows["dense"]["bytes"]
    assert outcome["sparsity"] == pytest.approx(0.7, abs=0.005)
    assert outcome["difference"] < 1e-5
    assert all(file["difference"] < 1e-5 and file["same"] == file["images"] for file in outcome["reloaded"])

    data = open_data("digits")
    sparse = restore(read(folder / "sparse.ckpt"))
    assert accuracy(sparse, data.test, data) == rows["sparse"]["accuracy"]

    shrunk = run("shrink", folder / "sparse.ckpt", "--output", "again.safetensors", "--json")
    assert shrunk.exit_code == 0, shrunk.stderr
    facts = json.loads(shrunk.stdout)
    assert facts["parameters"] == {"before": rows["dense"]["parameters"], "after": rows["slim"]["parameters"]}

    exported = run("export", "again.safetensors", "again.pt2", "--example", "1x1x16x16")
    assert exported.exit_code == 0, exported.stderr
    x = torch.randn(3, 1, 16, 16)
    with torch.no_grad():
        expected, found = sparse(x), campfire_fx.load(tmp_path / "again.pt2")(x)
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-5


def test_json_is_all_that_is_printed(run) -> None:
    result = run("train", "--epochs", 1, "--batch", 512, "--json", "--output", "here", "--model", "resnet8")
    assert result.exit_code == 0, result.stderr
    assert len(json.loads(result.stdout)["rows"]) == 4


@pytest.mark.parametrize(("side", "load", "threads"), [(16, 0.0, 1), (64, 0.0, 4), (64, 1.2, 3), (64, 9.0, 1)])
def test_threads_leave_busy_cores_alone(monkeypatch: pytest.MonkeyPatch, side: int, load: float, threads: int) -> None:
    split = Split(torch.zeros(1, 1, side, side, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64))
    data = ImageData("blank", ("a",), split, split, split, False, (0.5,), (0.3,))
    monkeypatch.setattr("torch.get_num_threads", lambda: 4)
    monkeypatch.setattr("os.getloadavg", lambda: (load, 0.0, 0.0), raising=False)
    assert useful_threads(data, Recipe(epochs=1, batch=32)) == threads


TINY = (
    *("--model", "tiny:tiny", "--networks", "sparse", "--formats", "safetensors", "--epochs", 2, "--threads", 1),
    *("--batch", 8, "--device", "cpu"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A Tiny-ImageNet of two classes, one image of which is cut off, beside a network for it."""
    (tmp_path / "tiny.py").write_text(
        "from torch import nn\n"
        "def tiny(classes):\n"
        "    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU()\n"
        "    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))\n"
    )
    write_tiny(tmp_path / "photos")
    for index, name in enumerate(("n01443537", "n01629819")):
        for number in range(4, 20):
            write_image(tmp_path / "photos/train" / name / "images" / f"{number}.JPEG", 100 * index + number)
    broken = tmp_path / "photos/train/n01443537/images/9.JPEG"
    broken.write_bytes(broken.read_bytes()[:200])
    return tmp_path / "photos"


@pytest.mark.parametrize("augment", ["shift", "crop"])
def test_unreadable_images_are_counted_or_stop_it(run, folder: Path, tmp_path: Path, augment: str) -> None:
    options = (*TINY, "--data", folder, "--augment", augment, "--image-size", 10, "--held-out", 0, "--workers", 0)
    result = run("train", *options, "--output", "here")
    assert result.exit_code == 0, result.stderr
    broken = folder / "train/n01443537/images/9.JPEG"
    assert f"1 image that cannot be read was skipped: {broken}." in result.stdout
    assert (tmp_path / "here/skipped.txt").read_text() == f"{broken}\n"
    assert "which were also used for validation" in " ".join(result.stdout.split())
    attacked = run("attack", "here", "--model", "tiny:tiny", "--epsilon", "0.1", "--images", 3, "--json")
    assert attacked.exit_code == 0, attacked.stderr  # with the same images
    assert json.loads(attacked.stdout)["images"] == 3
    stopped = run("train", *options, "--output", "there", "--strict")
    assert stopped.exit_code == 2
    assert f"Error: Image at {broken}: it cannot be read" in stopped.stderr


def test_a_run_is_resumed_refused_or_begun_anew(run, folder: Path, tmp_path: Path) -> None:
    options = (*TINY, "--data", folder, "--image-size", 10, "--output", "here", "--checkpoint-every", 1)
    assert run("train", *options).exit_code == 0
    sparse = (tmp_path / "here/sparse.ckpt").read_bytes()
    log = (tmp_path / "here/log.csv").read_text()
    assert [line.split(",")[:2] for line in log.splitlines()] == [
        ["network", "epoch"],
        ["sparse", "0"],
        ["sparse", "1"],
    ]
    (tmp_path / "here/results.json").unlink()  # as if it had been killed while exporting
    refused = run("train", *options)
    assert refused.exit_code == 2 and "Output folder here: it holds an unfinished run" in refused.stderr
    other = run("train", *options, "--resume", "auto", "--batch", 4)
    assert other.exit_code == 2 and "its run had batch 8, this one has 4" in other.stderr
    assert run("train", *options, "--resume", "auto").exit_code == 0
    assert (tmp_path / "here/sparse.ckpt").read_bytes() == sparse
    assert (tmp_path / "here/log.csv").read_text() == log  # not an epoch was trained again
    assert run("train", *options, "--resume", "never").exit_code == 0
    assert (tmp_path / "here/log.csv").read_text() != log  # seconds


def test_a_run_folder_has_one_live_process(run, folder: Path, tmp_path: Path) -> None:
    """The second one touches nothing: what the first is writing is not its to remove."""
    options = (*TINY, "--data", folder, "--image-size", 10, "--output", "here")
    with alone_in(tmp_path / "here", TrainError):
        (tmp_path / "here/.partial-1").write_bytes(b"half")
        result = run("train", *options)
        assert (tmp_path / "here/.partial-1").exists()
    assert result.exit_code == 2
    assert re.search(r"Error: Folder here: process \d+ on .* is at work in it\. Wait for it", result.stderr)
    assert run("train", *options).exit_code == 0
    assert not (tmp_path / "here/.partial-1").exists()


def test_a_folder_whose_name_is_no_utf_8(folder: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"here\xff")
    options = [*map(str, TINY), "--data", str(folder), "--image-size", "10", "--formats", ".SafeTensors, pt2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[3]), str(tmp_path)])}
    for command in (["train", *options, "--output", name], ["report", name, "--model", "tiny:tiny"]):
        result = subprocess.run(
            [sys.executable, "-m", "campfire_fx", *command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
    names = {path.name for path in (tmp_path / name).iterdir()}
    assert {"slim.safetensors", "slim.pt2", "results.json", "report.html"} <= names
    assert "slim..safetensors" not in names


def test_the_dense_network_by_itself(run, folder: Path, tmp_path: Path) -> None:
    result = run("train", *TINY, "--networks", "dense", "--data", folder, "--image-size", 10, "--output", "here")
    assert result.exit_code == 0, result.stderr
    outcome = json.loads((tmp_path / "here/results.json").read_text())
    assert [row["name"] for row in outcome["rows"]] == ["dense"] and outcome["sparsity"] is None
    assert "dense.ckpt, dense.safetensors, log.csv" in result.stdout


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--recipe", "resnet50-imagenet"), "Recipe resnet50-imagenet at digits: its images are too small for"),
        (("--recipe", "resnet50-imagenet", "--augment", "shift"), "it is for 1,000 classes, the data have 10"),
        (("--recipe", "resnet18"), "--recipe resnet18: there is no such recipe"),
        (("--checkpoint-every", "often"), "--checkpoint-every often: it is not an interval"),
        (("--formats", "safetensors,h5"), "unknown format 'h5': there are .onnx"),
        (("--warm-up", 2), "--warm-up 2.0: it is not a share in [0, 1)"),
    ],
)
def test_what_makes_no_sense_is_refused(run, options: tuple[str, ...], told: str) -> None:
    result = run("train", *options)
    assert result.exit_code == 2
    assert told in result.stderr


def test_a_recipe_is_shown_with_its_sources(run) -> None:
    result = run("train", "--recipe", "resnet50-tiny-imagenet", "--show-recipe")
    assert result.exit_code == 0, result.stderr
    rows = {line.split()[0]: line for line in result.stdout.splitlines() if line.strip()}
    assert "0.001" in rows["rate"] and "stated" in rows["rate"]
    assert "224" in rows["image_size"] and "stated" in rows["image_size"] and "chosen" in rows["sparsity"]
    assert "inferred" in rows["warm_up"] and "after" in rows["masks_move"]
    assert run("train", "--show-recipe").exit_code == 2


def test_a_recipe_trains_its_own_data(run, folder: Path, tmp_path: Path) -> None:
    """Tiny-ImageNet's recipe on a folder of 200 classes, made smaller by options."""
    for number in range(198):
        write_image(folder / "train" / f"x{number:03d}" / "images" / "0.JPEG", number)
    smaller = ("--epochs", 1, "--era", "0:1", "--image-size", 12, "--resize", 14, "--workers", 0)
    options = ("--model", "tiny:tiny", *smaller)
    named = ("--recipe", "resnet50-tiny-imagenet", "--formats", "safetensors", "--output", "here", "--device", "cpu")
    result = run("train", "--data", folder, *named, *options)
    assert result.exit_code == 0, result.stderr
    assert "the test images for validation too" in result.stdout and "ck to 60.0 %" in result.stdout
    (checkpoint,) = (tmp_path / "here/checkpoints").iterdir()
    facts = torch.load(checkpoint, weights_only=True)["facts"]
    assert (facts["optimizer"], facts["drops"], facts["batch"]) == ("adam", (30,), 64)
    assert facts["settings"] == {"masks_move": "after"} and "top-5" in result.stdout


@pytest.mark.slow
def test_regimes_have_their_settings_on_the_command_line(run, tmp_path) -> None:
    options = ["--epochs", 2, "--era", "0:1", "--batch", 512, "--networks", "sparse", "--formats", "safetensors"]
    wishes = ["--override", "layer1.*=0.5", "--override", "fc=0", "--set", "rho=0.1", "--set", "prune_stem=true"]
    result = run("train", *options, "--regime", "admm-filter", *wishes, "--output", "here", "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)["settings"]["sparsify"]
    assert told == {"overrides": {"layer1.*": 0.5, "fc": 0}, "rho": 0.1, "prune_stem": True}
    sparse = restore(read(tmp_path / "here" / "sparse.ckpt"))
    layers = {row.name: row for row in sparse.sparsity().layers}
    assert layers["conv1"].true > 0.5 and layers["layer1.0.conv1"].true == pytest.approx(0.5)

    again = run("train", *options, "--regime", "admm-filter", "--output", "here", "--resume", "auto")
    assert again.exit_code == 2 and "its run had settings {'rho': 0.1" in again.stderr.replace("\n", " ")


@pytest.mark.slow
@pytest.mark.parametrize("smaller", [False, True])
def test_channels_die_to_a_target(run, tmp_path, smaller: bool) -> None:
    options = ["--epochs", 4, "--era", "0:3", "--batch", 256, "--networks", "sparse", "--formats", "safetensors"]
    more = ["--reconfigure"] if smaller else []
    result = run("train", *options, "--target", "macs=0.5,parameters=0.6", *more, "--output", "here", "--json")
    assert result.exit_code == 0, result.stderr
    outcome = json.loads(result.stdout)
    rows = {row["name"]: row for row in outcome["rows"]}
    assert rows["slim"]["macs"] <= 0.5 * 3_049_000 and rows["slim"]["parameters"] <= 0.6 * 77_754
    assert (rows["sparse"]["macs"] < 1.12 * rows["slim"]["macs"]) == smaller  # not each time a channel dies
    assert rows["sparse"]["accuracy"] == rows["slim"]["accuracy"]
    data, sparse = open_data("digits"), restore(read(tmp_path / "here" / "sparse.ckpt"))
    assert accuracy(sparse, data.test, data) == rows["sparse"]["accuracy"]
    again = run("train", *options, "--target", "macs=0.4", *more, "--output", "here", "--resume", "auto")
    assert again.exit_code == 2 and "its run had settings {'target'" in " ".join(again.stderr.split())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--target", "macs"], "--target macs: it is not of the form COST=VALUE"),
        (["--target", "flops=0.5"], "unknown key 'flops'"),
        (["--target", "macs=2"], "outside (0, 1]"),
        (["--target", "macs=0.5", "--regime", "combined"], "regime 'combined' takes none"),
        (["--set", "priod=3"], "there is no 'priod'. Did you mean 'period'? There are exponent, prune_1x1"),
        (["--set", "nonsense"], "--set nonsense: it is not of the form NAME=VALUE"),
        (["--override", "layer1.*"], "--override layer1.*: it is not of the form PATTERN=SPARSITY"),
        (["--override", "layer9=0.3"], "no layer has such a path"),
        (["--set", "window_cap=abc"], "a cap of 'abc' non-zeros is no whole number"),
        (["--set", "prune_stem=maybe"], "prune_stem: 'maybe' is neither True nor False"),
        (["--set", "rho=0.1"], "rho: regime 'combined' takes none. Use it with 'admm-filter'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(run, words: list[str], told: str) -> None:
    result = run("train", "--epochs", 1, "--networks", "sparse", *words)
    assert result.exit_code != 0
    assert told in " ".join(result.stderr.replace("│", " ").split())
