"""Models of timm, by the name "timm:NAME"."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from campfire_fx.base.disk.archive import reason
from campfire_fx.base.errors import TrainError
from campfire_fx.base.hints import did_you_mean

PREFIX = "timm:"
_FACTS = {"classes": "num_classes", "channels": "in_chans"}


def build(name: str, asked: Mapping[str, Any], known: Mapping[str, Any]) -> nn.Module:
    """Return a model of timm with new weights.

    Args:
        name: "timm:resnet50d" and others of `timm.list_models()`.
        asked: arguments of `timm.create_model`.
        known: "classes" and "channels" of the images, where they are known.

    Raises:
        TrainError: timm is not installed, or has no such model, or that takes no such argument.
    """
    if importlib.util.find_spec("timm") is None:
        raise TrainError(f"MODEL {name}: timm is not installed. Run pip install timm.")
    import timm

    own = name.removeprefix(PREFIX)
    if not timm.is_model(own):
        hint = did_you_mean(own, timm.list_models())
        raise TrainError(f"MODEL {name}: timm has no such model.{hint} Give a name of timm.list_models().")
    if "pretrained" in asked:
        raise TrainError(f"MODEL {name}: 'pretrained' is no option of the network itself. Give its weights as a file.")
    facts = {_FACTS[fact]: value for fact, value in known.items() if _FACTS[fact] not in asked}
    try:
        return timm.create_model(own, pretrained=False, **facts, **asked)
    except Exception as error:  # its code may raise anything
        raise TrainError(
            f"MODEL {name}: timm cannot build it ({reason(error)}). Give options that it takes."
        ) from error


def pretrained(name: str, *, download: bool) -> dict[str, Tensor]:
    """Return the trained weights of a model as timm knows them.

    Raises:
        TrainError: they may not be downloaded, or cannot be.
    """
    if not download:
        raise TrainError(f"Weights of {name}: timm has to download them. Give --download, or their file.")
    import timm

    try:
        return timm.create_model(name.removeprefix(PREFIX), pretrained=True).state_dict()
    except Exception as error:  # whatever the network leads to
        raise TrainError(f"Weights of {name}: timm cannot fetch them ({reason(error)}). Give their file.") from error


def images_of(name: str) -> dict[str, Any]:
    """Return how images were given to the weights of a model: image_size, resize, interpolation, mean, std."""
    build(name, {}, {})  # says what is wrong with the name
    import timm

    own = timm.get_pretrained_cfg(name.removeprefix(PREFIX))
    side = own.input_size[-1]
    return {
        "image_size": side,
        "resize": round(side / (own.crop_pct or 1)),
        "interpolation": own.interpolation or "bilinear",
        "mean": tuple(own.mean),
        "std": tuple(own.std),
    }
