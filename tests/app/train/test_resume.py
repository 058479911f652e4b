"""A training that is stopped anywhere goes on as if never stopped, to the bit; what ends it says so."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import campfire_fx
from campfire_fx.app.train import loop, tally
from campfire_fx.app.train.checkpoint_manager import CheckpointManager, Every
from campfire_fx.app.train.data import ImageData
from campfire_fx.app.train.host import Host
from campfire_fx.app.train.loop import fit, fit_smaller
from campfire_fx.app.train.recipe import Recipe
from campfire_fx.app.train.split import Split
from campfire_fx.app.train.stopping import Stopped, stopping
from campfire_fx.app.train.training_log import TrainingLog
from campfire_fx.base.errors import TrainError

RECIPE = Recipe(epochs=4, batch=8, rate=0.05, era=(1, 3))  # of 5 steps each
OPTIMIZERS = {
    "sgd": RECIPE,
    "adam": replace(RECIPE, optimizer="adam", rate=1e-3, drops=(2,), warm_up=0.0),
    "adamw": replace(RECIPE, optimizer="adamw", rate=1e-3),
}


class Killed(BaseException):
    """As near to SIGKILL as can be had inside a process."""


def images(count: int = 43) -> ImageData:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    split = Split(pixels, torch.arange(count) % 3)
    return ImageData("noise", ("a", "b", "c"), split, split, split, True, (0.5,), (0.3,))


def network(regime: str = "combined", **wishes: Any) -> campfire_fx.SparseModel:
    torch.manual_seed(1)
    layers = (nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.BatchNorm2d(6), nn.ReLU())
    model = nn.Sequential(*layers, nn.Dropout(0.2), nn.Flatten(), nn.Linear(96, 3))
    given = {"sparsity": 0.6, "era": RECIPE.era, "example_inputs": torch.randn(1, 1, 8, 8), **wishes}
    return campfire_fx.sparsify(model, regime, **given)


def host(folder: Path, recipe: Recipe = RECIPE, interval: int = 1, **parts: Any) -> Host:
    folder.mkdir(exist_ok=True)
    facts = {"rate": recipe.rate, "optimizer": recipe.optimizer}
    return Host(
        checkpoints=CheckpointManager(folder, facts, Every(steps=interval)), observer=TrainingLog(folder), **parts
    )


def train(
    folder: Path, recipe: Recipe = RECIPE, regime: str = "combined", **parts: Any
) -> tuple[dict[str, Any], list[Any]]:
    model = network(regime)
    epochs = fit(model, images(), recipe, seed=3, title="sparse", host=host(folder, recipe, **parts))
    return model.state_dict(), [replace(epoch, seconds=0.0) for epoch in epochs]


def train_smaller(folder: Path, **wishes: Any) -> tuple[dict[str, Any], list[Any]]:
    recipe, wishes = replace(RECIPE, epochs=6, era=(1, 5)), {"target": {"macs": 0.3}, "at_least": 0.2, **wishes}
    model = network("channel", era=recipe.era, **wishes)
    smaller, epochs, _ = fit_smaller(model, images(), recipe, seed=3, title="sparse", host=host(folder, recipe))
    return smaller.state_dict(), [replace(epoch, seconds=0.0) for epoch in epochs]


def assert_same(found: tuple[dict[str, Any], list[Any]], expected: tuple[dict[str, Any], list[Any]]) -> None:
    assert found[0].keys() == expected[0].keys()
    for name, tensor in expected[0].items():
        assert torch.equal(found[0][name], tensor), name
    assert found[1] == expected[1]


def after_steps(count: int, act: Callable[[], None]) -> Callable[..., Any]:
    """Return a `seed_step` that also acts as a step of this number, counted from 0 over the process, begins."""
    seen = iter(range(10**6))
    original = loop.seed_step

    def seed_step(*arguments: int) -> None:
        original(*arguments)
        if next(seen) == count:
            act()

    return seed_step


def kill() -> None:
    raise Killed


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_killed_and_resumed_is_never_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str) -> None:
    recipe = OPTIMIZERS[optimizer]
    expected = train(tmp_path / "whole", recipe)
    for steps in (2, 4, 1, 5):  # in the middle of an epoch, at its end, in and out of the era
        with monkeypatch.context() as patch:
            patch.setattr(loop, "seed_step", after_steps(steps, kill))
            with pytest.raises(Killed):
                train(tmp_path / "killed", recipe)
        torch.manual_seed(steps)  # a new process has other generators
    assert_same(train(tmp_path / "killed", recipe), expected)
    assert_same(train(tmp_path / "killed", recipe), expected)  # it is over: nothing is trained


@pytest.mark.parametrize("score", ["flow", "taylor"])
def test_what_gets_smaller_on_the_way_is_killed_and_resumed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, score: str
) -> None:
    expected = train_smaller(tmp_path / "whole", score=score)
    assert expected[0]["0.weight"].shape[0] < 6 and not expected[0]["0.weight"].isnan().any()
    for steps in (7, 9, 8):  # before anything is smaller, then where it was made so once, and twice
        with monkeypatch.context() as patch:
            patch.setattr(loop, "seed_step", after_steps(steps, kill))
            with pytest.raises(Killed):
                train_smaller(tmp_path / "killed", score=score)
        torch.manual_seed(steps)
    assert_same(train_smaller(tmp_path / "killed", score=score), expected)


def test_a_first_mask_at_random_depends_on_the_seed_alone(tmp_path: Path) -> None:
    """Not on what was trained before in this process: a resumed run does not train that again."""
    found = []
    for index in range(2):
        sparse = network("rigl")
        torch.manual_seed(index)
        fit(
            sparse,
            images(),
            replace(RECIPE, epochs=1, era=(0, 1)),
            seed=3,
            title="sparse",
            host=host(tmp_path / str(index)),
        )
        found.append(sparse.state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_dense_master_weights_resume_too_and_are_pruned_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = train(tmp_path / "whole", regime="swat-m")
    with monkeypatch.context() as patch:
        patch.setattr(loop, "seed_step", after_steps(13, kill))
        with pytest.raises(Killed):
            train(tmp_path / "killed", regime="swat-m")
    found = train(tmp_path / "killed", regime="swat-m")
    assert_same(found, expected)
    assert_same(train(tmp_path / "killed", regime="swat-m"), expected)  # it is over: pruned again, and alike
    state = found[0]
    assert not state["3.weight"][~state["3.mask"]].any() and "3.input_threshold" not in state


def test_a_lottery_ticket_goes_back_with_its_learning_rate_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounds of two epochs; from the second on the first epoch of each is epoch 1 again."""
    recipe = replace(RECIPE, epochs=6, era=(0, 4), drops=(2,), warm_up=0.0)

    def run(folder: Path) -> tuple[dict[str, Any], list[Any]]:
        model = network("lottery-ticket", era=recipe.era, rounds=2, rewind_to=1)
        epochs = fit(model, images(), recipe, seed=3, title="sparse", host=host(folder, recipe))
        return model.state_dict(), [replace(epoch, seconds=0.0) for epoch in epochs]

    expected = run(tmp_path / "whole")
    assert [epoch.rate for epoch in expected[1]] == pytest.approx([0.05, 0.05, 0.05, 0.005, 0.05, 0.005])
    assert [epoch.sparsity for epoch in expected[1]] == pytest.approx([0, 0.37, 0.37, 0.6, 0.6, 0.6], abs=0.01)
    for steps in (3, 8, 12):
        with monkeypatch.context() as patch:
            patch.setattr(loop, "seed_step", after_steps(steps, kill))
            with pytest.raises(Killed):
                run(tmp_path / "killed")
        torch.manual_seed(steps)
    assert_same(run(tmp_path / "killed"), expected)
    with pytest.raises(TrainError, match="--reconfigure: this regime rewinds the weights"):
        fit_smaller(network("lottery-ticket"), images(), recipe, seed=3, title="sparse", host=host(tmp_path / "other"))


def test_a_checkpoint_that_lies_back_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = train(tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(loop, "seed_step", after_steps(13, kill))
        with pytest.raises(Killed):
            train(tmp_path / "killed", interval=6)
    assert [path.name for path in sorted((tmp_path / "killed/checkpoints").iterdir())] == [
        "sparse-000000006.ckpt",
        "sparse-000000012.ckpt",
    ]
    assert_same(train(tmp_path / "killed", interval=6), expected)
    rows = [(folder / "log.csv").read_text().splitlines() for folder in (tmp_path / "killed", tmp_path / "whole")]
    assert [row.split(",")[:4] for row in rows[0]] == [row.split(",")[:4] for row in rows[1]]


def test_killed_while_validating(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = train(tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(loop, "tally", lambda *_, **__: kill())
        with pytest.raises(Killed):
            train(tmp_path / "killed")
    assert_same(train(tmp_path / "killed"), expected)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int) -> None:
    expected = train(tmp_path / "whole")
    with monkeypatch.context() as patch, stopping() as stop:
        patch.setattr(loop, "seed_step", after_steps(7, lambda: os.kill(os.getpid(), number)))
        with pytest.raises(Stopped) as stopped:
            train(tmp_path / "stopped", interval=1000, stop=stop)
    saved = tmp_path / "stopped/checkpoints/sparse-000000008.ckpt"
    assert str(stopped.value) == (
        f"Stopped by {signal.Signals(number).name} in training sparse at epoch 1, step 3: saved {saved}."
        " Go on with --resume auto."
    )
    assert stopped.value.exit_code == code and saved.exists()
    assert_same(train(tmp_path / "stopped"), expected)


def test_a_signal_while_validating_saves_the_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = train(tmp_path / "whole")
    original = tally.answers

    def answers(*arguments: Any, **words: Any) -> Iterator[Any]:
        os.kill(os.getpid(), signal.SIGTERM)
        return original(*arguments, **words)

    with monkeypatch.context() as patch, stopping() as stop:
        patch.setattr(tally, "answers", answers)
        with pytest.raises(Stopped, match="at epoch 0, step 5: saved"):
            train(tmp_path / "stopped", interval=1000, stop=stop)
    assert_same(train(tmp_path / "stopped"), expected)


def test_lost_loss_names_the_step_and_the_last_good_checkpoint(tmp_path: Path, monkeypatch) -> None:
    model = network()

    def lose() -> None:
        with torch.no_grad():
            model.get_parameter("8.bias").fill_(float("nan"))

    monkeypatch.setattr(loop, "seed_step", after_steps(7, lose))
    with pytest.raises(TrainError) as error:
        fit(model, images(), RECIPE, seed=3, title="sparse", host=host(tmp_path))
    assert str(error.value) == (
        "Loss of sparse at epoch 1, step 2: it is nan. The last good checkpoint is"
        f" {tmp_path}/checkpoints/sparse-000000007.ckpt. Give a lower --learning-rate and --resume auto, which goes on"
        " from it."
    )
    monkeypatch.undo()
    lower = replace(RECIPE, rate=0.01)
    _, epochs = train(tmp_path, lower)  # and so it does
    assert epochs[-1].rate == pytest.approx(lower.rate_at(19, 5))


def test_another_optimizer_is_refused(tmp_path: Path) -> None:
    train(tmp_path)
    with pytest.raises(TrainError, match="its run had optimizer sgd, this one has adam"):
        train(tmp_path, OPTIMIZERS["adam"])
