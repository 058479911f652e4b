"""`campfire-fx attack` and `campfire-fx report` on a run folder, its files, and models by name."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest
import torch

from campfire_fx.app.train.checkpoint import read, restore
from campfire_fx.app.train.data import open_data
from campfire_fx.app.train.tally import accuracy
from campfire_fx.export import export
from tests.app.runs.small_run import make_run, sparse_network


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_run(tmp_path / "runs" / "digits")


def test_a_run_folder_is_attacked(run, folder: Path) -> None:
    result = run("attack", folder, "--epsilon", "0.02, 8/255", "--images", 60, "--json")
    assert result.exit_code == 0, result.stderr
    facts = json.loads(result.stdout)
    assert facts["epsilons"] == [0.0, 0.02, 8 / 255] and facts["images"] == 60
    right = {curve["name"]: curve["right"] for curve in facts["curves"]}
    assert list(right) == ["dense", "sparse", "slim"]
    assert right["sparse"][0] == right["slim"][0]
    assert json.loads((folder / "attack.json").read_text()) == facts
    with (folder / "attack.csv").open() as lines:
        assert len(list(csv.reader(lines))) == 1 + 3 * 3
    assert (folder / "attack.png").read_bytes().startswith(b"\x89PNG")


def test_at_epsilon_0_the_accuracy_is_the_plain_one(run, folder: Path) -> None:
    result = run("attack", folder / "sparse.ckpt", "--epsilon", 0, "--json")
    data = open_data("digits")
    plain = accuracy(restore(read(folder / "sparse.ckpt")), data.test, data)
    curve = json.loads(result.stdout)["curves"][0]
    assert curve["accuracy"][0]["value"] == plain


def test_the_table_and_then_the_page(run, folder: Path) -> None:
    result = run("attack", folder, "--epsilon", "0.05", "--images", 20, "--space", "normalised", "--split", "valid")
    assert result.exit_code == 0, result.stderr
    for text in ("Accuracy under FGSM", "standard deviations", "slim", "- dense", "20 images", "attack.png"):
        assert text in " ".join(result.stdout.split())  # titles are wrapped
    for name in ("sparse.ckpt", "results.json"):
        (folder / name).unlink()  # less to draw
    result = run("report", folder, "--png", "png", "--json")
    assert result.exit_code == 0, result.stderr
    written = [Path(path) for path in json.loads(result.stdout)]
    assert written[0] == folder / "report.html" and "Robustness" in written[0].read_text()
    assert Path("png/attack.png") in written and all(path.is_file() for path in written)


def test_files_and_names_are_attacked_where_the_data_are_given(run, tmp_path: Path) -> None:
    slim = sparse_network().shrink()
    export(slim, tmp_path / "net.safetensors", torch.zeros(1, 1, 16, 16))
    state = {name: t for name, t in sparse_network().state_dict().items() if "mask" not in name and "extra" not in name}
    torch.save(state, tmp_path / "weights.pt")
    result = run("attack", "net.safetensors", "resnet8", "--weights", "weights.pt", "--data", "digits", "--images", 30,
                 "--epsilon", 0, "--mean", "0.5", "--std", "1", "--output", "out", "--json")  # fmt: skip
    assert result.exit_code == 0, result.stderr
    first, second = json.loads(result.stdout)["curves"]
    assert (first["name"], second["name"]) == ("net", "resnet8") and first["right"] == second["right"]
    assert (tmp_path / "out" / "attack.csv").exists()


@pytest.mark.parametrize(("arguments", "text"), [
    (["runs/digits", "--epsilon=-0.1"], "Epsilon -0.1: it is not the size"),
    (["runs/digits", "--epsilon", "some"], "not a list of numbers"),
    (["runs/digits", "--epsilon", "1/0"], "not a list of numbers"),
    (["runs/digits", "--mean", "0.5"], "belong together"),
    (["runs/digits", "--mean", "0.5,0.5", "--std", "1,1"], "it has 2 channels, the images have 1"),
    (["runs/digits", "--image-size", "32"], "it was made for images of 1x16x16, those of digits are 1x32x32"),
    (["resnet8", "--weights", "w.pt"], "it is not recorded what the networks were trained on. Give --data"),
    (["resnet8", "--data", "digits"], "its weights are untrained"),
    (["slim.onnx", "--data", "digits"], "an .onnx file gives no gradients"),
    (["empty"], "nothing in it was written by campfire-fx train"),
])  # fmt: skip
def test_what_cannot_be_attacked_is_one_line(run, folder: Path, arguments: list[str], text: str) -> None:
    Path("empty").mkdir()
    extra = ["--data", "digits"] if arguments == ["empty"] else []
    result = run("attack", *arguments, *extra)
    assert result.exit_code == 2
    assert text in " ".join(result.stderr.replace("│", " ").split())
    assert not (folder / "attack.json").exists()


def test_without_matplotlib_there_is_a_table_and_a_hint(run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run("attack", folder / "sparse.ckpt", "--images", 5, "--epsilon", 0.1)
    assert result.exit_code == 0, result.stderr
    assert "No plot: matplotlib is not installed" in result.stdout
    assert (folder / "attack.csv").exists() and not (folder / "attack.png").exists()
    result = run("report", folder)
    assert result.exit_code == 2 and 'pip install "jinja2' in result.stderr


def test_a_factory_is_run_only_if_named(run, folder: Path) -> None:
    saved = torch.load(folder / "dense.ckpt", weights_only=True)
    torch.save(saved | {"model": "campfire_fx.app.train.networks:resnet8"}, folder / "dense.ckpt")
    wanted = ["attack", folder / "dense.ckpt", "--images", 5, "--epsilon", 0.1]
    refused = run(*wanted)
    assert refused.exit_code == 2 and "If you trust that code, give --model" in refused.stderr
    given = run(*wanted, "--model", "campfire_fx.app.train.networks:resnet8")
    assert given.exit_code == 0, given.stderr
