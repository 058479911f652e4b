"""What all runs of a folder share, so that they can be compared."""

from __future__ import annotations

import functools
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from campfire_fx.app.train.checkpoint import load_state, read_tensors
from campfire_fx.app.train.data import ImageData
from campfire_fx.app.train.recipe import Recipe
from campfire_fx.app.train.split import Split
from campfire_fx.base.errors import CampfireError
from campfire_fx.cost.measure import macs
from pareto.networks import build

BUDGETS = ("epochs", "compute")
_FINEST = 1 / 512  # of a width factor


@dataclass(frozen=True, slots=True)
class Setting:
    """Data, network and budget.

    Attributes:
        data: what the images are called.
        images: how many are trained on.
        model: name of the dense network.
        shape: (C, H, W) of an image.
        classes: how many.
        recipe: of the dense network.
        budget: "epochs": every network gets the recipe's; "compute": as many as cost what the dense ones do.
        trained: name and checksum of the file with the weights that every run begins with; None: new weights.
    """

    data: str
    images: int
    model: str
    shape: tuple[int, int, int]
    classes: int
    recipe: Recipe
    budget: str = "epochs"
    trained: str | None = None

    def to_facts(self) -> dict[str, Any]:
        """Return it as JSON would give it back."""
        facts: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return facts

    def build(self, width: float = 1.0) -> nn.Module:
        """Return the network with new weights, every width multiplied by `width`."""
        network = build(self.model, self.classes, self.shape[0], width)
        return network.to(memory_format=torch.channels_last)  # a quarter less time on a CPU

    @property
    def example(self) -> Tensor:
        """One image of random numbers, always the same ones."""
        return torch.randn(1, *self.shape, generator=torch.Generator().manual_seed(0))

    def macs(self, network: nn.Module) -> int:
        """Return the multiply-accumulates of a network for one image."""
        return macs(network, (self.example,)).total


@functools.cache
def dense_macs(setting: Setting) -> int:
    """Return the multiply-accumulates of the dense network for one image."""
    return setting.macs(setting.build())


@functools.cache
def uniform_width(setting: Setting, target: float) -> float:
    """Return the largest factor of all widths with which the network has at most `target` of the dense MACs.

    Raises:
        CampfireError: no factor does.
    """
    low, high = 0.0, 1.0
    while high - low > _FINEST:
        middle = (low + high) / 2
        fits = setting.macs(setting.build(middle)) <= target * dense_macs(setting)
        low, high = (middle, high) if fits else (low, middle)
    if not low:
        raise CampfireError(
            f"uniform at {setting.model}: no width of it has {target:g} of its MACs. Leave uniform out, or give a model"
            f" whose factory takes `width`."
        )
    return low


def begin_trained(network: nn.Module, path: Path) -> nn.Module:
    """Load the weights of a trained network, and return it."""
    load_state(network, read_tensors(path), path.name)
    return network


def fewer_images(data: ImageData, count: int | None) -> ImageData:
    """Keep so many training images, of every class the same share, always the same ones.

    Args:
        data: whose training images are in memory.
        count: how many; None: all of them.

    Raises:
        CampfireError: there are not so many, or they cannot be shared among the classes.
    """
    if count is None:
        return data
    assert isinstance(data.train, Split)  # `open_data` reads small images into memory
    if not len(data.classes) <= count <= len(data.train):
        raise CampfireError(
            f"--images {count}: there are {len(data.train):,} training images of {len(data.classes)} classes. Give a"
            f" number between the two."
        )
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    by_class = [order[data.train.targets[order] == index] for index in range(len(data.classes))]
    # Image by image around the classes, until there are enough; a class that has too few leaves its turn to the others.
    rank = torch.cat([torch.arange(len(rows)) for rows in by_class])
    chosen = torch.cat(by_class)[rank.argsort(stable=True)][:count]
    return replace(data, train=data.train[chosen.sort().values])
