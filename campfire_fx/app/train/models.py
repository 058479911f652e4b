"""Models by name: the small networks here, torchvision's, or a factory of the user's."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import warnings
from pathlib import Path
from typing import Any

from torch import nn

from campfire_fx.app.train.networks import NETWORKS
from campfire_fx.base.errors import CampfireError, TrainError
from campfire_fx.base.hints import did_you_mean

RESNET50_V1 = "resnet50-v1"


def build_model(name: str, **options: Any) -> nn.Module:
    """Build a model with fresh weights.

    Args:
        name: "resnet8", "resnet14" or "resnet20" (for small images), any name of `torchvision.models.list_models()`,
            "resnet50-v1" (torchvision's resnet50, which is v1.5, with the strides where they first were), or
            "package.module:factory", a callable that returns a model; it is looked for in the working folder too.
        options: arguments for the network; a factory of the user's gets those that it has parameters for.

    Raises:
        TrainError: there is no such model, or the factory does not return one.
    """
    if ":" in name:
        return _from_factory(name, options)
    if name in NETWORKS:
        return NETWORKS[name](**options)
    if importlib.util.find_spec("torchvision") is None:
        raise TrainError(
            f"MODEL {name}: torchvision, where it may be, is not installed. Run pip install 'campfire-fx[train]',"
            f" or give one of {', '.join(NETWORKS)}, or package.module:factory."
        )
    return _from_torchvision(name, options)


def _from_torchvision(name: str, options: dict[str, Any]) -> nn.Module:
    from torchvision import models

    if name == RESNET50_V1:
        return _strides_first(_from_torchvision("resnet50", options))
    known = [*NETWORKS, RESNET50_V1, *models.list_models()]
    if name not in known:
        raise TrainError(
            f"MODEL {name}: torchvision has no such model.{did_you_mean(name, known)}"
            f" Give a name of torchvision.models.list_models(), or package.module:factory."
        )
    if "channels" in options and options.pop("channels") != 3:
        raise TrainError(f"MODEL {name}: it takes colour images, the data are grey. Give one of {', '.join(NETWORKS)}.")
    if "classes" in options:
        options["num_classes"] = options.pop("classes")
    if "weights_backbone" in inspect.signature(models.get_model_builder(name)).parameters:
        options["weights_backbone"] = None  # its default would be fetched
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # about initial weights, which nobody chose here
        return models.get_model(name, weights=None, **options)


def _strides_first(network: nn.Module) -> nn.Module:
    """Make a ResNet of version 1.5 one of version 1: of a block the first 1x1 convolution strides, not the 3x3 one."""
    for block in network.modules():
        first, second = (getattr(block, name, None) for name in ("conv1", "conv2"))
        if isinstance(first, nn.Conv2d) and isinstance(second, nn.Conv2d) and second.stride != (1, 1):
            first.stride, second.stride = second.stride, (1, 1)
    return network


def _from_factory(name: str, options: dict[str, Any]) -> nn.Module:
    module_name, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # as `python -m` does: the user's own module lies beside them
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise TrainError(f"MODEL {name}: it cannot be imported ({error}). Give package.module:factory.") from error
    try:
        parameters = inspect.signature(factory).parameters
        takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        model = factory(**{key: value for key, value in options.items() if takes_all or key in parameters})
    except CampfireError:
        raise
    except Exception as error:  # the user's own code may raise anything
        raise TrainError(f"MODEL {name}: calling it failed ({type(error).__name__}: {error}). Fix it.") from error
    if not isinstance(model, nn.Module):
        raise TrainError(
            f"MODEL {name}: it returned a {type(model).__name__}, not a torch.nn.Module. Return the model."
        )
    return model
