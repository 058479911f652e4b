"""Models by name: the small networks here, torchvision's, or a factory of the user's."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from campfire_fx.app.libraries import timm, transformers
from campfire_fx.app.train.factories import FACTS, call_factory
from campfire_fx.app.train.networks import NETWORKS
from campfire_fx.base.errors import TrainError
from campfire_fx.base.hints import did_you_mean, install_command

RESNET50_V1 = "resnet50-v1"


def build_model(name: str, asked: Mapping[str, Any] | None = None, /, **options: Any) -> nn.Module:
    """Build a model with fresh weights.

    Args:
        name: "resnet8", "resnet14" or "resnet20" (for small images), any name of `torchvision.models.list_models()`,
            "resnet50-v1" (torchvision's resnet50, which is v1.5, with the strides where they first were), "timm:NAME",
            "hf:FOLDER" or "hf:owner/name" of transformers, or "package.module:factory", a callable that returns a
            model; it is looked for in the working folder too.
        asked: arguments that a user names; the network has to take them.
        options: arguments for the network. "classes" and "channels", of the images, are given where it has a parameter
            of this meaning, by whichever name; it has to take the others.

    Raises:
        TrainError: there is no such model, or the factory does not return one.
    """
    asked = dict(asked or {}) | {key: value for key, value in options.items() if key not in FACTS}
    known = {key: value for key, value in options.items() if key in FACTS}
    if name.startswith(timm.PREFIX):
        return timm.build(name, asked, known)
    if name.startswith(transformers.PREFIX):
        return transformers.build(name, asked, known)
    if ":" in name:
        return call_factory(name, _imported(name), asked, known)
    if name in NETWORKS:
        return call_factory(name, NETWORKS[name], asked, known)
    _require_torchvision(name)
    return _from_torchvision(name, asked, known)


def check_model(name: str) -> None:
    """Raise the TrainError of `build_model` where there is no such model, without building it."""
    if ":" in name:
        _imported(name)
    elif name not in NETWORKS:
        _require_torchvision(name)


def _require_torchvision(name: str) -> None:
    if importlib.util.find_spec("torchvision") is None:
        raise TrainError(
            f"MODEL {name}: it is none of the built-in models, and torchvision is not installed. "
            f"Run {install_command('train')}, or give one of {', '.join(NETWORKS)}, or package.module:factory."
        )
    from torchvision import models

    names = [*NETWORKS, RESNET50_V1, *models.list_models()]
    if name not in names:
        raise TrainError(
            f"MODEL {name}: torchvision has no such model.{did_you_mean(name, names)}"
            f" Give a name of torchvision.models.list_models(), or package.module:factory."
        )


def _from_torchvision(name: str, asked: Mapping[str, Any], known: Mapping[str, Any]) -> nn.Module:
    from torchvision import models

    if name == RESNET50_V1:
        return _strides_first(_from_torchvision("resnet50", asked, known))
    if known.get("channels", 3) != 3:
        raise TrainError(f"MODEL {name}: it takes colour images, the data are grey. Give one of {', '.join(NETWORKS)}.")
    fixed: dict[str, Any] = {"weights": None}
    if "weights_backbone" in inspect.signature(models.get_model_builder(name)).parameters:
        fixed["weights_backbone"] = None  # its default would be fetched
    odd = next((key for key in asked if key in ("pretrained", "pretrained_backbone", "name", *fixed)), None)
    if odd is not None:
        raise TrainError(f"MODEL {name}: '{odd}' is no option of the network itself. Leave it out.")
    classes = {"classes": known["classes"]} if "classes" in known else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # about initial weights, which nobody chose here
        return call_factory(name, partial(models.get_model, name, **fixed), asked, classes)


def _strides_first(network: nn.Module) -> nn.Module:
    """Make a ResNet of version 1.5 one of version 1: of a block the first 1x1 convolution strides, not the 3x3 one."""
    for block in network.modules():
        first, second = (getattr(block, name, None) for name in ("conv1", "conv2"))
        if isinstance(first, nn.Conv2d) and isinstance(second, nn.Conv2d) and second.stride != (1, 1):
            first.stride, second.stride = second.stride, (1, 1)
    return network


def _imported(name: str) -> Callable[..., Any]:
    """Return the factory `package.module:factory`."""
    module_name, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # as `python -m` does: the user's own module lies beside them
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except Exception as error:  # the user's own code may raise anything
        told = str(error) if isinstance(error, (ImportError, AttributeError, ValueError)) else _typed(error)
        raise TrainError(f"MODEL {name}: it cannot be imported ({told}). Give package.module:factory.") from error


def _typed(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
