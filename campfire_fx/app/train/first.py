"""The first network of a job, from new weights or trained ones, and the images in the form that it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from campfire_fx.app.train.checkpoint import load_own
from campfire_fx.app.train.data import ImageData
from campfire_fx.app.train.ends import GREY, IMAGE_CHANNELS, give_classes, of_other_classes, stem
from campfire_fx.app.train.foreign import find_state
from campfire_fx.app.train.models import build_model
from campfire_fx.app.train.trained import TrainedWeights
from campfire_fx.base.errors import TrainError


@dataclass(frozen=True, slots=True, eq=False)
class First:
    """The network that the others of a job are copies of.

    Attributes:
        network: with its first weights.
        options: arguments of `build_model`.
        data: images in the form that it takes.
        start: what a checkpoint notes of the trained weights; None: they are new.
        told: a line on what was loaded and what was not.
    """

    network: nn.Module
    options: dict[str, Any]
    data: ImageData
    start: dict[str, Any] | None = None
    told: str = ""


def first_network(
    name: str,
    data: ImageData,
    seed: int,
    trained: TrainedWeights | None = None,
    asked: Mapping[str, Any] | None = None,
) -> First:
    """Build a network for the classes of some images, with new weights or with trained ones.

    A classifier for another number of classes is replaced by one with new weights, drawn as the seed says. Grey images
    are given in equal channels to a network that was trained on colour ones.

    Args:
        name: as `build_model` takes it.
        data: images.
        seed: of new weights.
        trained: weights to start from.
        asked: options of the network that a user names.

    Raises:
        TrainError: there is no such model, or it does not classify images of this size, or the weights are not of it,
            or for other images.
    """
    options = {"classes": len(data.classes), "channels": data.shape[0], **(asked or {})}
    if trained is None:
        return _new(_built(name, options, seed), name, options, data)
    options |= trained.options
    network = _built(name, options, seed)
    state = find_state(trained.content, network, name)
    _check_finite(state, trained)
    channels = _stem_channels(network, state)
    if channels not in (None, options["channels"]):
        options["channels"] = channels
        network = _built(name, options, seed)
    given = _given(network, data, trained)
    replaced = give_classes(network, len(data.classes), torch.zeros(1, *given.shape), name)
    others = of_other_classes(network, state, len(data.classes))
    _load(network, state, others, name)
    told = _told(trained, network, others, len(data.classes))
    if given.shape[0] != data.shape[0]:
        told += f" Grey images are given to it in {given.shape[0]} equal channels."
    start = {"source": trained.source, "sha256": trained.sha256, "replaced": replaced}
    return First(network, options, given, start, told)


def _new(network: nn.Module, name: str, options: dict[str, Any], data: ImageData) -> First:
    """Return a network with new weights, made sure that it gives one number for each class."""
    replaced = give_classes(network, len(data.classes), torch.zeros(1, *data.shape), name)
    if not replaced:
        return First(network, options, data)
    layers = " and ".join(replaced)
    told = f"MODEL {name}: its classifier {layers} is replaced by one for {len(data.classes):,} classes."
    return First(network, options, data, {"replaced": replaced}, told)


def _built(name: str, options: Mapping[str, Any], seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return build_model(name, **options)


def _stem_channels(network: nn.Module, state: Mapping[str, Any]) -> int | None:
    """Return the channels of images that a state was trained on; None: it does not show."""
    found = stem(network)
    weight = state.get(f"{found[0]}.weight") if found is not None else None
    if found is None or not isinstance(weight, Tensor) or weight.dim() != 4:
        return None
    channels = weight.shape[1] * found[1].groups
    return channels if channels in IMAGE_CHANNELS else None


def _given(network: nn.Module, data: ImageData, trained: TrainedWeights) -> ImageData:
    found = stem(network)
    wanted, had = found[1].in_channels if found is not None else data.shape[0], data.shape[0]
    if wanted != had != GREY:
        raise TrainError(
            f"Weights {trained.source}: they are for grey images, those of {data.name} have colour."
            f" Give other weights, or grey images."
        )
    known = trained.mean is not None and trained.std is not None and len(trained.mean) == wanted == len(trained.std)
    return data.given_as(wanted, trained.mean if known else None, trained.std if known else None)


def _check_finite(state: Mapping[str, Any], trained: TrainedWeights) -> None:
    floats = {key: value for key, value in state.items() if isinstance(value, Tensor) and value.is_floating_point()}
    odd = next((key for key, value in floats.items() if not bool(value.isfinite().all())), None)
    if odd is not None:
        raise TrainError(
            f"Weights {trained.source}: {odd} is not finite. Give weights of a training that did not diverge."
        )


def _load(network: nn.Module, state: Mapping[str, Any], others: Mapping[str, int], name: str) -> None:
    """Load all but the classifiers for other classes."""
    new = {key: value for key, value in network.state_dict().items() if _layer_of(key) in others}
    load_own(network, {**state, **new}, name)


def _layer_of(key: str) -> str:
    return key.rpartition(".")[0]


def _told(trained: TrainedWeights, network: nn.Module, others: Mapping[str, int], classes: int) -> str:
    keys = [key for key in network.state_dict() if not key.endswith("num_batches_tracked")]  # older files have none
    loaded = sum(_layer_of(key) not in others for key in keys)
    share = f"all {len(keys)}" if not others else f"{loaded} of {len(keys)}"
    line = f"Starting from {trained.source} (SHA-256 {trained.sha256[:12]}): {share} tensors are loaded"
    if not others:
        return f"{line}."
    had = next(iter(others.values()))
    return f"{line}; {' and '.join(others)} new, for {classes:,} classes instead of {had:,}."
