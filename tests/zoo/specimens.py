"""Every model of torchvision, without weights, ready to be shrunk: example inputs, another size, what to compare."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from tests.assertions import says_something
from tests.random_zeros import calibrate, random_zeros, randomise

Inputs = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Family:
    """How models whose names match a pattern are made and fed.

    Attributes:
        pattern: of their names.
        shape: of the example, without the batch.
        other: shape at another size, or the same where the model takes no other.
        options: for torchvision's factory.
        inputs: how many tensors of that shape the model takes.
        linears: linear layers get zeros too: where convolutions alone cannot get smaller.
        parts: wraps a model that chooses among its own results (a detector) into one that gives them all.
    """

    pattern: str
    shape: tuple[int, ...] = (3, 64, 64)
    other: tuple[int, ...] = (3, 96, 96)
    options: tuple[tuple[str, Any], ...] = (("weights", None),)
    inputs: int = 1
    linears: bool = False
    parts: Callable[[nn.Module], nn.Module] | None = None


class DetectorParts(nn.Module):
    """A detector up to where it chooses: backbone, heads, and the second stage on boxes that are given.

    What a detector returns is sorted and cut off by score, so rounding can exchange two boxes that score alike.
    """

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: list[Tensor]) -> list[Any]:
        d = self.detector
        batch, _ = d.transform(images)
        features = d.backbone(batch.tensors)
        features = features if isinstance(features, dict) else {"0": features}
        if not hasattr(d, "rpn"):
            return [d.head(list(features.values()))]
        found: list[Any] = [d.rpn.head(list(features.values()))]
        boxes = [torch.tensor([[3.0, 4.0, 40.0, 50.0], [10.0, 8.0, 60.0, 30.0]]).to(images[0])] * len(images)
        second = d.roi_heads
        found.append(second.box_predictor(second.box_head(second.box_roi_pool(features, boxes, batch.image_sizes))))
        for name in ("mask", "keypoint"):
            if getattr(second, f"{name}_head", None) is not None:
                pooled = getattr(second, f"{name}_roi_pool")(features, boxes, batch.image_sizes)
                found.append(getattr(second, f"{name}_predictor")(getattr(second, f"{name}_head")(pooled)))
        return found


_DETECTOR = (("weights", None), ("weights_backbone", None))
_SMALL = (*_DETECTOR, ("min_size", 96), ("max_size", 160))
_PLAIN = (("weights", None), ("init_weights", False))
FAMILIES = (
    Family("fasterrcnn_*", (3, 96, 128), (3, 128, 96), _SMALL, parts=DetectorParts),
    Family("maskrcnn_*", (3, 96, 128), (3, 128, 96), _SMALL, parts=DetectorParts),
    Family("keypointrcnn_*", (3, 96, 128), (3, 128, 96), _SMALL, parts=DetectorParts),
    Family("retinanet_*", (3, 96, 128), (3, 128, 96), _SMALL, parts=DetectorParts),
    Family("fcos_*", (3, 96, 128), (3, 128, 96), _SMALL, parts=DetectorParts),
    Family("ssd*", (3, 96, 128), (3, 128, 96), _DETECTOR, parts=DetectorParts),
    Family("deeplabv3_*", options=_DETECTOR),
    Family("fcn_*", options=_DETECTOR),
    Family("lraspp_*", options=_DETECTOR),
    Family("raft_*", (3, 128, 128), (3, 128, 160), inputs=2),
    Family("mvit_*", (3, 16, 224, 224), (3, 16, 224, 224), linears=True),
    Family("swin3d_*", (3, 4, 64, 64), (3, 6, 96, 96), linears=True),
    Family("swin_*", linears=True),
    Family("convnext_*", linears=True),
    Family("s3d", (3, 16, 224, 224), (3, 16, 224, 224)),
    Family("mc3_*", (3, 4, 48, 48), (3, 6, 64, 64)),
    Family("r3d_*", (3, 4, 48, 48), (3, 6, 64, 64)),
    Family("r2plus1d_*", (3, 4, 48, 48), (3, 6, 64, 64)),
    Family("quantized_googlenet", options=(*_PLAIN, ("quantize", False))),
    Family("quantized_inception_v3", (3, 96, 96), (3, 128, 128), (*_PLAIN, ("quantize", False))),
    Family("quantized_*", options=(("weights", None), ("quantize", False))),
    Family("googlenet", options=_PLAIN),
    Family("inception_v3", (3, 96, 96), (3, 128, 128), _PLAIN),
    Family("vit_*", (3, 224, 224), (3, 224, 224), linears=True),
    Family("maxvit_*", (3, 224, 224), (3, 224, 224), linears=True),
    Family("*"),
)


@dataclass(frozen=True, slots=True)
class Specimen:
    """One model with random statistics and zeros, and what to feed it."""

    name: str
    model: nn.Module
    example: Inputs
    another: Inputs
    family: Family

    def compared(self, model: nn.Module) -> nn.Module:
        """Return what is compared of a model."""
        return model if self.family.parts is None else self.family.parts(model)


def names() -> list[str]:
    """Return the names of all models of torchvision."""
    return list(torchvision.models.list_models())


def family(name: str) -> Family:
    """Return how a model is made and fed."""
    return next(f for f in FAMILIES if fnmatch.fnmatch(name, f.pattern))


def specimen(
    name: str, *, dtype: torch.dtype = torch.float32, seed: int = 0, sane: bool = True, zeros: bool = True
) -> Specimen:
    """Make a model, zero half of its filters and a third of its other kernels, and keep its activations sane.

    Zeros can cut the input off from the output of a narrow network, and then equal outputs prove nothing: so a sane
    specimen is made of the first seed, from the one given on, that leaves a way through. `zeros=False`: a dense one.
    """
    for tried in range(seed, seed + 10):
        found = _specimen(name, dtype, tried, sane, zeros)
        if not sane or says_something(found.compared(found.model), found.example):
            return found
    raise AssertionError(f"{name}: the output does not change with the input for any seed tried")


def _specimen(name: str, dtype: torch.dtype, seed: int, sane: bool, zeros: bool) -> Specimen:
    kind = family(name)
    torch.manual_seed(seed)
    model = torchvision.models.get_model(name, **dict(kind.options)).to(dtype).eval()
    randomise(model, seed)
    if zeros:
        random_zeros(model, seed, linears=kind.linears)
    example, another = _inputs(kind, kind.shape, 1, dtype, seed), _inputs(kind, kind.other, 2, dtype, seed + 1)
    if sane:
        calibrate(model, *another, seed=seed)  # the larger one: statistics of few positions make a deep network chaotic
    return Specimen(name, model.train(), example, another, kind)


def _inputs(kind: Family, shape: tuple[int, ...], batch: int, dtype: torch.dtype, seed: int) -> Inputs:
    generator = torch.Generator().manual_seed(seed)
    if kind.parts is not None:
        return ([torch.rand(shape, generator=generator).to(dtype) for _ in range(batch)],)
    return tuple(torch.randn((batch, *shape), generator=generator).to(dtype) for _ in range(kind.inputs))
