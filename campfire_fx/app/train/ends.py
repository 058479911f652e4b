"""The two ends of a network: the convolution that reads its images, and the layers with an output for each class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from campfire_fx.base.disk.archive import reason
from campfire_fx.base.errors import TrainError

GREY, COLOUR = 1, 3
IMAGE_CHANNELS = (GREY, COLOUR)


def stem(network: nn.Module) -> tuple[str, nn.Conv2d] | None:
    """Return the first convolution and its path, where it is one that reads grey or colour images; else None."""
    found = next(((path, layer) for path, layer in network.named_modules() if isinstance(layer, nn.Conv2d)), None)
    return found if found is not None and found[1].in_channels in IMAGE_CHANNELS else None


def give_classes(network: nn.Module, classes: int, example: Tensor, name: str) -> tuple[str, ...]:
    """Replace the classifier of a network, in place, if it has another number of outputs; return the layer's path.

    For factories that take no number of classes, or under a name that is not known. The classifier is the last linear
    layer or 1x1 convolution with as many outputs as the network; its weights are new.

    Args:
        network: any.
        classes: outputs that it should have.
        example: images (1, C, H, W).
        name: the network's, for errors.

    Raises:
        TrainError: the network cannot be run, or it is not plain which layer to replace.
    """
    found = _outputs(network, example, name)
    if found == classes:
        return ()
    layers = classifiers(network, found)
    if layers:
        renew(network, layers[-1], classes)
    if not layers or _outputs(network, example, name) != classes:
        raise TrainError(
            f"MODEL {name}: it has {found:,} outputs for {classes:,} classes, and it is not clear which layer makes"
            f" them. Give a factory that takes classes."
        )
    return (layers[-1],)


def classifiers(network: nn.Module, classes: int) -> list[str]:
    """Return the paths of the layers that may give a number for each of so many classes; the last one does."""
    return [path for path, layer in network.named_modules() if _is_plain(layer) and len(layer.weight) == classes]


def renew(network: nn.Module, path: str, classes: int) -> None:
    """Put a new layer with so many outputs in the place of a linear layer or 1x1 convolution."""
    layer = network.get_submodule(path)
    fresh: nn.Module
    if isinstance(layer, nn.Conv2d):
        fresh = nn.Conv2d(layer.in_channels, classes, 1, bias=layer.bias is not None)
    else:
        assert isinstance(layer, nn.Linear)
        fresh = nn.Linear(layer.in_features, classes, bias=layer.bias is not None)
    parent, _, name = path.rpartition(".")
    setattr(network.get_submodule(parent), name, fresh)


def of_other_classes(network: nn.Module, state: Mapping[str, Any], classes: int) -> dict[str, int]:
    """Return the layers for which a state has weights for another number of classes, and that number for each.

    They are those whose weights have another form, if each is a linear layer or 1x1 convolution with an output for each
    of the network's `classes`, and all of them have one and the same other number of outputs in the state; else none.
    """
    others: dict[str, int] = {}
    for key, value in network.state_dict().items():
        given = state.get(key)
        if not isinstance(given, Tensor) or given.shape == value.shape:
            continue
        path = key.rpartition(".")[0]
        per_class = bool(value.dim()) and bool(given.dim()) and len(value) == classes
        if not per_class or given.shape[1:] != value.shape[1:] or not _is_plain(network.get_submodule(path)):
            return {}
        if others.setdefault(path, len(given)) != len(given):
            return {}
    return others if len(set(others.values())) == 1 else {}


def _is_plain(layer: nn.Module) -> bool:
    """Say whether a layer maps each position by itself, all channels to all: a linear layer, or a 1x1 convolution."""
    if type(layer) is nn.Conv2d:
        return layer.kernel_size == (1, 1) and layer.groups == 1 and layer.padding == (0, 0) and layer.stride == (1, 1)
    return type(layer) is nn.Linear


@torch.no_grad()
def _outputs(network: nn.Module, example: Tensor, name: str) -> int:
    training = network.training
    try:
        found = network.eval()(example)
    except Exception as error:  # the user's own code may raise anything
        shape = " x ".join(map(str, example.shape[1:]))
        raise TrainError(
            f"MODEL {name}: it cannot be run on images of {shape} ({reason(error)}). Give another --image-size, or a"
            f" model for such images."
        ) from error
    finally:
        network.train(training)
    if not isinstance(found, Tensor) or found.dim() != 2:
        raise TrainError(f"MODEL {name}: its output is not one number for each class. Give a network that classifies.")
    return found.shape[1]
