"""Options in a file: read as if typed, refused in one sentence, and written so that they give the same run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from campfire_fx.app.cli.run_config import config_text
from campfire_fx.app.cli.sweeping_run import plan
from campfire_fx.app.cli.training_plan import Machine, Planned
from campfire_fx.app.train.checkpoint import Checkpoint, save
from campfire_fx.app.train.networks import resnet8
from campfire_fx.base.errors import TrainError

OPTIONS = {
    "none": [],
    "a pattern that YAML takes for a time": ["--regime", "2:4", "--epochs", "9", "--era", "2:5"],
    "channels": ["--target", "macs=0.5", "--target", "parameters=0.3", "--reconfigure"],
    "a learning rate": ["--learning-rate", "1e-05", "--drops", "3,5", "--no-nesterov", "--optimizer", "adam"],
    "no drops": ["--recipe", "resnet50-tiny-imagenet", "--data", "tiny", "--drops", "none"],
    "a recipe": ["--recipe", "resnet50-imagenet", "--data", "imagenet", "--networks", "all", "--batch", "32"],
    "layers": ["--override", "layer1.*=0.4", "--override", "fc=0", "--set", "dead_norm=keep", "--set", "exponent=2"],
    "a model": ["--model", "resnet18", "--option", "width=8", "--option", "name=2:4", "--image-size", "32"],
    "crops": ["--data", "photos", "--augment", "crop", "--image-size", "64", "--resize", "72", "--workers", "2"],
    "files": ["--formats", "pt,onnx", "--output", "a folder", "--checkpoint-every", "90s", "--download", "--strict"],
    "trackers": ["--tracker", "tensorboard", "--seed", "3", "--residual", "gate", "--device", "cpu", "--threads", "3"],
    "one network": ["--networks", "dense", "--held-out", "0", "--weight-decay", "0"],
}


def written(planned: Planned, folder: Path) -> Path:
    path = folder / "config.yaml"
    path.write_text(config_text(planned, threads=3), encoding="utf-8")
    return path


def same(planned: Planned) -> Planned:
    start = planned.start and replace(planned.start, open=len)
    return replace(planned, given={}, start=start, machine=replace(planned.machine, threads=3))


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_the_file_of_a_run_gives_the_same_run(options: list[str], tmp_path: Path) -> None:
    planned = plan(options)
    path = written(planned, tmp_path)
    again = plan(["--config", str(path)])
    assert same(again) == same(planned)
    assert config_text(again, 3) == path.read_text(encoding="utf-8")


def test_what_follows_from_trained_weights_is_theirs(tmp_path: Path) -> None:
    images = {"resize": 20, "interpolation": "bicubic", "augment": "crop"}
    state = resnet8(classes=10, channels=1).state_dict()
    save(Checkpoint("resnet8", {"classes": 10}, (1, 1, 16, 16), None, state, images=images), tmp_path / "dense.ckpt")
    planned = plan(["--from", str(tmp_path / "dense.ckpt")])
    again = plan(["--config", str(written(planned, tmp_path))])
    assert planned.recipe.fresh_rate is not None and same(again) == same(planned)
    faster = plan(["--config", str(tmp_path / "config.yaml"), "--learning-rate", "0.2"])
    assert (faster.recipe.rate, faster.recipe.fresh_rate) == (0.2, None)


def test_it_is_read_as_people_write_it(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(
        "epochs: 10   # few\nera: 2:8\nregime: 2:4\nlearning_rate: 1e-3\ndrops: [4, 6]\nnesterov: no\n"
        "override: {fc: 0.5}\nset:\n  dead_norm: keep\nweights:\nformats: [pt, onnx]\nsparsity: 0.5\n"
        "tracker: tensorboard\n"
    )
    found = plan(["--config", str(path), "--sparsity", "0.25"])
    recipe, settings = found.recipe, found.settings
    assert (recipe.epochs, recipe.era, recipe.rate, recipe.drops, recipe.nesterov) == (10, (2, 8), 1e-3, (4, 6), False)
    assert settings.regime == "2:4" and settings.sparsity == 0.25 and settings.formats == ("pt", "onnx")
    assert settings.arguments == {"dead_norm": "keep", "overrides": {"fc": 0.5}}
    assert settings.trackers == ("tensorboard",) and found.start is None
    path.write_text("")
    assert same(plan(["--config", str(path)])) == same(plan([]))


def test_the_file_says_what_was_not_typed(tmp_path: Path) -> None:
    found = yaml.safe_load(config_text(plan(["--override", "a=b=0.5", "--set", "exponent=2.50"]), threads=2))
    assert found["model"] == "resnet8" and found["epochs"] == 40 and found["era"] == [8, 24] and found["threads"] == 2
    assert found["override"] == {"a": "b=0.5"} and found["set"] == {"exponent": "2.50"}
    assert not {"resume", "json", "quiet", "config", "strict"} & set(found)
    assert plan([]).machine == Machine()


@pytest.mark.parametrize(("text", "message"), [
    ("epochz: 3", "there is no option 'epochz'. Did you mean 'epochs'?"),
    ("config: other.yaml", "there is no option 'config'"),
    ("epochs: many", "epochs: .*integer"),
    ("epochs: [1, 2]", "epochs: it takes a single value. Give another value."),
    ("output: {a: b}", "output: it takes a single value"),
    ("networks: some", "networks: .*'some' is not one of 'all'"),
    ("nesterov: perhaps", "nesterov: .*boolean"),
    ("set: {rho: [1]}", "line 1: it is nested too deeply"),
    ("seed: 1\nseed: 2", "line 2: 'seed' appears twice"),
    ("- epochs", "it holds no options"),
    ("seed: [", "line 1: it is not YAML"),
    ("a: \x00", "it is not YAML"),
])  # fmt: skip
def test_what_is_wrong_is_said_in_a_sentence(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(TrainError, match=message) as error:
        plan(["--config", str(path)])
    assert "run.yaml" in str(error.value) and "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=r"--config .*none.yaml: it cannot be read \(No such file or directory\)"):
        plan(["--config", str(tmp_path / "none.yaml")])


def test_the_file_of_the_documentation_is_right(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "train-command.md").read_text(encoding="utf-8")
    path = tmp_path / "run.yaml"
    path.write_text(page.partition("```yaml\n")[2].partition("```")[0])
    found = plan(["--config", str(path), "--seed", "1"])
    assert found.recipe.era == (4, 12) and found.settings.seed == 1 and found.settings.formats == ("onnx", "pt2")
    assert found.settings.arguments == {"dead_norm": "keep", "overrides": {"layer1.*": 0.4}}
