"""Old imports and old pickles find modules where they are now."""

from __future__ import annotations

import importlib

import pytest

from campfire_fx.base.former_names import FORMER, name_now


@pytest.mark.parametrize("former", FORMER)
def test_a_former_name_gives_the_one_module_that_there_is(former: str) -> None:
    name = f"campfire_fx.{former}"
    assert importlib.import_module(name) is importlib.import_module(name_now(name))
    assert name_now(name) != name


def test_what_lies_below_a_former_name_is_not_loaded_twice() -> None:
    from campfire_fx.train.networks import resnet8

    from campfire_fx.app.train import networks

    assert resnet8 is networks.resnet8


def test_other_names_are_left_alone() -> None:
    assert name_now("campfire_fx.training.model") == "campfire_fx.training.model"
    assert name_now("torch.errors") == "torch.errors"
    with pytest.raises(ModuleNotFoundError, match="campfire_fx.nowhere"):
        importlib.import_module("campfire_fx.nowhere")
