"""The Pareto front's tool: its budgets and plan are what they say, and it runs, stops, and goes on."""

from __future__ import annotations

import copy
import csv
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import run_pareto
import torch
from filelock import FileLock
from pareto import budgets, execute, methods, networks, plan, setting, torch_pruner, training
from pareto.methods import trainee_of
from pareto.plan import Run, Wishes
from pareto.setting import Setting

from campfire_fx.app.train.batches import TrainBatches
from campfire_fx.app.train.data import ImageData
from campfire_fx.app.train.loop import fit
from campfire_fx.app.train.recipe import recipe_for
from campfire_fx.app.train.split import Split
from campfire_fx.base.errors import CampfireError

COMMAND = "--data digits --image-size 8 --images 320 --epochs 1 --era 0 1 --batch 64 --seeds 0 --targets 0.5"
METHODS = "--methods uniform torch-pruning/magnitude/gradual filter --scratch torch-pruning/magnitude/gradual"
RECIPE = recipe_for("any", epochs=12, era=(2, 7), batch=16)


def small(**changes: Any) -> Setting:
    return replace(Setting("noise", 40, "resnet20", (1, 8, 8), 10, RECIPE), **changes)


def noise(count: int = 40) -> ImageData:
    torch.manual_seed(0)
    split = Split(torch.randint(0, 256, (count, 1, 8, 8), dtype=torch.uint8), torch.arange(count) % 10)
    return ImageData("noise", tuple("abcdefghij"), split, split, split, False, (0.5,), (0.3,))


def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str, folder: Path) -> Any:
    monkeypatch.setattr(sys, "argv", ["run_pareto.py", *words.split(), "--output", str(folder)])
    status = run_pareto.main()
    captured = capsys.readouterr()
    return status, captured.out + captured.err


# The command.


@pytest.mark.slow
def test_a_front_that_was_stopped_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch_pruning")
    names = ["dense-seed0", "uniform-0.5-MACs-seed0", "torch-pruning-magnitude-gradual-0.5-MACs-seed0"]
    names += ["filter-70-zeros-seed0", "torch-pruning-magnitude-gradual-0.5-MACs-widths-from-scratch-seed0"]
    words = f"{COMMAND} {METHODS}"
    monkeypatch.setattr(execute, "BATCHES", {1: 3, 64: 3})
    status, text = call(monkeypatch, capsys, f"{words} --list", tmp_path)
    assert status == 0 and text.split()[-5:] == names and not list(tmp_path.glob("*.json"))

    done = run_pareto.execute
    monkeypatch.setattr(run_pareto, "execute", lambda run, *rest: stop() if run.kind == "filter" else done(run, *rest))
    status, text = call(monkeypatch, capsys, words, tmp_path)
    assert status == 130 and "Stopped. Give the command again" in text
    assert f"Missing: {', '.join(names[3:])}." in (tmp_path / "pareto.md").read_text()
    monkeypatch.setattr(run_pareto, "execute", done)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}
    assert len(before) == 3

    status, text = call(monkeypatch, capsys, words, tmp_path)
    assert status == 0 and "5 of 5 runs done, 0 left" in text
    assert {path: path.stat().st_mtime_ns for path in before} == before, "what had finished was run again"
    check_table(tmp_path, names)

    status, text = call(monkeypatch, capsys, f"{words} --rate 0.2", tmp_path)
    assert status == 2 and "its recipe was" in text and "Give another --output" in text
    trained = f"{COMMAND} --methods filter --from-trained {tmp_path / 'dense-seed0.safetensors'}"
    status, text = call(monkeypatch, capsys, trained, tmp_path / "trained")
    assert status == 0 and "2 of 2 runs done" in text
    assert (
        "dense-seed0.safetensors"
        in json.loads((tmp_path / "trained/dense-seed0.json").read_text())["setting"]["trained"]
    )
    assert str(tmp_path) not in (tmp_path / "trained/pareto.md").read_text()


def stop() -> None:
    raise KeyboardInterrupt


def check_table(folder: Path, names: list[str]) -> None:
    with (folder / "pareto.csv").open() as file:
        rows = {row["run"]: row for row in csv.DictReader(file)}
    theirs = "torch-pruning/magnitude/gradual 0.5 MACs"
    assert set(rows) == {"dense", "uniform 0.5 MACs", theirs, "filter 70 % zeros", f"{theirs}, widths from scratch"}
    assert (
        rows["dense"]["macs_ratio"] == rows["dense"]["training_macs_ratio"] == rows["dense"]["latency_1_ratio"] == "1"
    )
    for label in ("uniform 0.5 MACs", theirs):
        assert 0.45 < float(rows[label]["macs_ratio"]) <= 0.5
    scratch = rows[f"{theirs}, widths from scratch"]
    assert scratch["macs"] == rows[theirs]["macs"] and scratch["parameters"] == rows[theirs]["parameters"]
    assert float(scratch["training_macs_ratio"]) == pytest.approx(float(scratch["macs_ratio"]), rel=1e-5)
    assert float(rows[theirs]["training_macs_ratio"]) == 1, "it was cut as the one epoch ended"
    assert float(rows["filter 70 % zeros"]["difference"]) < 1e-5
    facts = [json.loads((folder / f"{name}.json").read_text()) for name in names]
    for fact in facts:
        assert len(bin(int(fact["right"], 16))) - 3 == fact["images"] == 449
        assert bin(int(fact["right"], 16)).count("1") - 1 == round(fact["accuracy"] * 449)
        assert fact["cpu_seconds"] > 0 and fact["widths"]["fc"] == 10 and fact["setting"]["images"] == 320
    assert "Missing" not in (folder / "pareto.md").read_text()
    assert {path.name for path in folder.glob("*.png")} == {
        f"pareto-{cost}.png" for cost in ("macs", "parameters", "latency")
    }


def test_a_run_that_another_process_has_in_hand_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with FileLock(tmp_path / ".dense-seed0.lock"), FileLock(tmp_path / ".uniform-0.5-MACs-seed0.lock"):
        status, text = call(monkeypatch, capsys, f"{COMMAND} --methods uniform", tmp_path)
    assert status == 0 and "0 of 2 runs done, 2 left" in text and "Other processes are at work" in text


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--methods torch-pruning/size", "Give torch-pruning/magnitude|taylor/gradual|one-shot."),
        ("--methods torch-pruning/taylor/gradual+reconfigure", "there is no such form of it."),
        ("--methods chanel", "unknown regime 'chanel'"),
        ("--methods filter/l2", "Give filter, and +reconfigure behind it."),
        ("--targets 1.5", "1.5 is outside [0, 1)"),
        ("--targets 0", "Give numbers above 0."),
        ("--methods filter --scratch uniform", "Add it to --methods."),
        ("--images 5", "Give a number between the two."),
        ("--from-trained nowhere.pt", "there is no such file. Check the path."),
        ("--from-trained nowhere.pt --methods uniform", "it begins with new weights. Leave it out"),
        ("--model resnet8 --methods uniform --list", None),
    ],
)
def test_bad_input_is_told(
    words: str, told: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, text = call(monkeypatch, capsys, f"{COMMAND} {words}", tmp_path)
    assert (status == 0) if told is None else (status == 2 and told in text), text


# The plan.


def test_dense_comes_first_and_widths_from_scratch_last() -> None:
    wishes = Wishes(("uniform", "2:4", "filter"), (0.5, 0.25), (0.7,), (0, 1), scratch=("filter",))
    labels = [run.label for run in plan.plan(wishes)]
    filters = ["filter 70 % zeros", "filter 70 % zeros, widths from scratch"]
    assert labels[:5] == ["dense", "uniform 0.5 MACs", "2:4 50 % zeros", *filters]
    assert labels[5:7] == ["uniform 0.25 MACs", "dense"] and labels[6:] == labels[:6]
    runs = plan.plan(wishes)
    assert len({run.name for run in runs}) == len(runs)
    assert all(plan.from_facts({"run": json.loads(json.dumps(asdict(run)))}) == run for run in runs)


# The budget.


def test_an_equal_compute_makes_a_schedule_as_long_as_it_reaches() -> None:
    def longer(method: str, share: float = 1.0) -> Any:
        return budgets.recipe_of(Run(method, target=0.5), RECIPE, "compute", share, 100)

    assert longer("dense").epochs == 12 and longer("filter").epochs == 12
    assert (longer("uniform", 0.5).epochs, longer("uniform", 0.35).epochs) == (24, 34)
    assert longer("torch-pruning/magnitude/one-shot").epochs == 16  # eight epochs at 1, eight at 0.5
    assert budgets.recipe_of(Run("uniform", target=0.5), RECIPE, "epochs", 0.5, 100) == RECIPE
    for method in ("torch-pruning/taylor/gradual", "channel+reconfigure"):
        found = longer(method)
        assert found.epochs > 12 and found.era == (round(2 * found.epochs / 12), round(7 * found.epochs / 12))
        spent, over = (
            budgets.dense_epochs(Run(method, target=0.5), recipe, 1.0, 100)
            for recipe in (found, budgets.stretched(RECIPE, found.epochs + 1))
        )
        assert spent <= 12 < over
        shares = budgets.planned_shares(Run(method, target=0.5), RECIPE, 1.0)
        assert [shares(epoch) for epoch in (0, 2, 7, 12)] == [1, 1, 0.5, 0.5] and 0.5 < shares(4) < 0.75


# Training.


@pytest.mark.parametrize("method", ["dense", "combined"])
def test_it_trains_as_the_command_does(method: str) -> None:
    recipe, data, given = replace(RECIPE, epochs=2, era=(0, 2)), noise(), small()
    torch.manual_seed(3)
    network = given.build()
    run = Run(method, sparsity=None if method == "dense" else 0.6)
    batches = TrainBatches(data, recipe.batch, 5, moved=True)
    trainee = trainee_of(run, copy.deepcopy(network), recipe, batches, given)
    other = trainee_of(run, network, recipe, batches, given).network
    epochs = fit(other, data, recipe, seed=5, title="")
    found = training.train(trainee, given, seed=5, title="")
    if method != "dense":
        trainee.network.step()
    assert found.losses == [epoch.loss for epoch in epochs]
    state = trainee.network.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in other.state_dict().items())
    assert found.training_macs == 2 * 32 * 3 * setting.dense_macs(given) and found.cpu_seconds > 0


def test_a_smaller_network_trains_on_from_the_epoch_in_which_its_masks_moved() -> None:
    given, data, recipe = small(), noise(), replace(RECIPE, epochs=3, era=(0, 1))
    found: dict[str, tuple[list[int], int]] = {}
    for method in ("filter", "filter+reconfigure"):
        torch.manual_seed(0)
        batches = TrainBatches(data, recipe.batch, 0)
        trainee = trainee_of(Run(method, sparsity=0.6), given.build(), recipe, batches, given)
        macs = training.train(trainee, given, seed=0, title="").macs
        trainee.finish()
        found[method] = (macs, given.macs(trainee.network))
    dense = setting.dense_macs(given)
    (masked, masked_end), (cut, cut_end) = found.values()
    assert masked == [dense] * 3 and cut == [dense, cut_end, cut_end]
    assert masked_end == cut_end < 0.6 * dense


def test_a_regime_is_asked_for_as_a_run_says(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(methods, "sparsify", lambda network, regime, **wishes: asked.update(wishes, regime=regime))
    run = Run("channel-combined/norm_scale/each-set+reconfigure", target=0.5, sparsity=0.7)
    methods.sparsified(run, small().build(), RECIPE, small())
    assert asked.pop("example_inputs").shape == (1, 1, 8, 8)
    wishes = {"target": {"macs": 0.5}, "sparsity": 0.7, "score": "norm_scale", "scope": "each set", "era": (2, 7)}
    assert asked == wishes | {"regime": "channel-combined"}


@pytest.mark.parametrize(
    "method",
    [
        *(f"torch-pruning/{importance}/{way}" for importance in plan.IMPORTANCES for way in plan.WAYS),
        "channel",
        "channel/l2+reconfigure",
    ],
)
def test_a_training_costs_what_was_planned(method: str) -> None:
    if method.startswith(plan.THEIRS):
        pytest.importorskip("torch_pruning")
    given, data, run = small(), noise(), Run(method, target=0.5)
    recipe, batches = replace(RECIPE, epochs=4, era=(1, 3)), TrainBatches(data, 16, 0)
    trainee = trainee_of(run, given.build(), recipe, batches, given)
    spent = training.train(trainee, given, seed=0, title="").training_macs
    epoch = len(batches) * batches.batch * budgets.PASSES * setting.dense_macs(given)
    planned = budgets.dense_epochs(run, recipe, 1.0, len(batches))
    assert 0.95 * planned < spent / epoch <= planned


@pytest.mark.parametrize("importance", ["magnitude", "taylor"])
def test_torch_pruning_cuts_momenta_with_their_weights(importance: str) -> None:
    pytest.importorskip("torch_pruning")
    given, run = small(), Run(f"torch-pruning/{importance}/gradual", target=0.5)
    torch.manual_seed(0)
    trainee: Any = trainee_of(run, given.build(), RECIPE, TrainBatches(noise(), 16, 0), given)
    shares = budgets.planned_shares(run, RECIPE, 1.0)
    for epoch in (0, 3, 7):
        for weight in trainee.network.parameters():
            trainee.optimizer.state[weight]["momentum_buffer"] = weight.detach().clone()
        trainee.epoch(epoch)
        pairs = [
            (weight, trainee.optimizer.state[weight]["momentum_buffer"]) for weight in trainee.network.parameters()
        ]
        assert all(torch.equal(weight, momentum) for weight, momentum in pairs)
        counted = given.macs(trainee.network)
        assert counted == trainee.count()
        assert shares(epoch) - 0.03 < counted / trainee.dense <= shares(epoch)
    assert (trainee.more_macs > 0) == (importance == "taylor")
    assert trainee.network.fc.out_features == 10
    assert trainee.network(torch.randn(2, 1, 8, 8)).shape == (2, 10)


def test_torch_pruning_says_what_it_cannot_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch_pruning")
    monkeypatch.setattr(torch_pruner, "_STEPS", 20)
    given, run = small(), Run("torch-pruning/magnitude/one-shot", target=1e-4)
    trainee = trainee_of(run, given.build(), RECIPE, TrainBatches(noise(), 16, 0), given)
    with pytest.raises(CampfireError, match=r"it cannot cut to 0.0001 of the MACs.* Give a larger target\."):
        trainee.epoch(6)


# Networks and images.


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_uniform_widths_are_the_largest_that_fit(name: str) -> None:
    if name == "mobilenet_v2_small":
        pytest.importorskip("torchvision")
    given = small(model=name, shape=(3, 32, 32))
    dense = setting.dense_macs(given)
    assert 10e6 < dense < 45e6
    width = setting.uniform_width(given, 0.5)
    assert given.macs(given.build(width)) <= 0.5 * dense < given.macs(given.build(width + 1 / 512))
    assert given.build(width).eval()(given.example).shape == (1, 10)


def test_a_network_that_has_no_widths_is_told() -> None:
    with pytest.raises(CampfireError, match=r"no width of it has 0.5 of its MACs\. Leave uniform out"):
        setting.uniform_width(small(model="resnet8"), 0.5)


def test_fewer_images_are_of_every_class_the_same_share() -> None:
    data = noise(100)
    some = setting.fewer_images(data, 45)
    assert len(some.train) == 45 and set(some.train.targets.bincount().tolist()) == {4, 5}
    again = setting.fewer_images(data, 45)
    assert torch.equal(some.train.images, again.train.images)
    assert len(some.valid) == 100 and setting.fewer_images(data, None) is data
    rare = replace(data, train=data.train[torch.cat([torch.arange(10), torch.arange(9, 100, 10)])])
    assert setting.fewer_images(rare, 15).train.targets.bincount().tolist() == [1] * 9 + [6]


def test_a_begun_network_has_the_weights_that_it_is_given(tmp_path: Path) -> None:
    given = small()
    trained = given.build()
    torch.save({"state_dict": trained.state_dict()}, tmp_path / "dense.pt")
    network = setting.begin_trained(given.build(), tmp_path / "dense.pt")
    assert torch.equal(network.conv1.weight, trained.conv1.weight)
    assert execute.widths(network)["layer3.2.conv2"] == 64
