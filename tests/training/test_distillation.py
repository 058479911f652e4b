"""`distillation_loss`, and `train --distill`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from campfire_fx import TrainError, distillation_loss
from campfire_fx.app.cli import app
from campfire_fx.app.train import loop
from campfire_fx.app.train.data import Where, open_data
from campfire_fx.app.train.host import Host
from campfire_fx.app.train.networks import resnet8
from campfire_fx.app.train.recipe import recipe_for
from campfire_fx.training.distillation import teach

STUDENT, TEACHER = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 1.0], [0.0, 3.0]])
CLASSES = torch.tensor([0, 1])


def test_the_loss_is_that_of_the_paper() -> None:
    t, weight = 2.0, 0.75
    p, q = (TEACHER / t).softmax(1), (STUDENT / t).softmax(1)
    imitation = float((p * (p / q).log()).sum(1).mean()) * t**2
    plain = float(-STUDENT.softmax(1)[torch.arange(2), CLASSES].log().mean())
    found = distillation_loss(STUDENT, TEACHER, CLASSES, weight=weight, temperature=t)
    assert float(found) == pytest.approx((1 - weight) * plain + weight * imitation, rel=1e-5)


def test_a_perfect_imitation_leaves_the_classes() -> None:
    found = distillation_loss(TEACHER, TEACHER, CLASSES, weight=0.9)
    assert float(found) == pytest.approx(0.1 * float(nn.functional.cross_entropy(TEACHER, CLASSES)), rel=1e-5)


def test_gradients_flow_into_the_student_alone() -> None:
    student, teacher = STUDENT.clone().requires_grad_(), TEACHER.clone().requires_grad_()
    distillation_loss(student, teacher, CLASSES).backward()
    assert student.grad is not None and teacher.grad is None


def test_a_teacher_speaks_in_evaluation_mode_and_stays_as_it_was() -> None:
    teacher = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)).train()
    said = teach(teacher, STUDENT)
    assert teacher.training and not said.requires_grad
    torch.testing.assert_close(said, teacher.eval()(STUDENT).detach())


@pytest.mark.parametrize("weight", [0.0, -0.1, 1.5])
def test_a_weight_that_makes_no_sense_is_refused(weight: float) -> None:
    with pytest.raises(TrainError, match=r"--distill .* is not a share above 0"):
        recipe_for("digits", distill=weight)


def test_train_asks_the_teacher_in_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Any] = []
    monkeypatch.setattr(loop, "teach", lambda network, images: heard.append(len(images)) or teach(network, images))
    data = open_data("digits", Where(image_size=8))
    recipe = recipe_for("digits", epochs=1, batch=256, distill=0.5)
    losses = {}
    for name, teacher in (("taught", resnet8(channels=1)), ("alone", None)):
        torch.manual_seed(0)
        (epoch,) = loop.fit(resnet8(channels=1), data, recipe, seed=0, title=name, host=Host(teacher=teacher))
        losses[name] = epoch.loss
    assert heard == [256] * (len(data.train) // 256) and losses["taught"] != losses["alone"]


@pytest.mark.parametrize("networks", ["sparse", "no-dense", "dense"])
def test_a_run_without_a_teacher_is_refused(networks: str) -> None:
    refused = CliRunner().invoke(app, ["train", "--distill", "0.5", "--networks", networks])
    assert refused.exit_code == 2 and "the dense network teaches" in refused.output
