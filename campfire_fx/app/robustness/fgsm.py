"""FGSM, the fast gradient sign method: one step of a fixed size against the network that is attacked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from campfire_fx.app.robustness.normalisation import Normalisation
from campfire_fx.base.errors import AttackError
from campfire_fx.base.untouched import training_flags

Space = Literal["raw", "normalised"]
_LARGEST = 3e38  # about what float32 holds
Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Threat:
    """What an attacker may do to an image.

    Attributes:
        normalisation: between raw images and the network.
        space: where a step of epsilon is taken: "raw", in the units of the images; or "normalised", in standard
            deviations of each channel.
        valid: smallest and largest value that an image can hold; None where there is no such range.
    """

    normalisation: Normalisation
    space: Space = "raw"
    valid: Range | None = (0.0, 1.0)

    def step(self, images: Tensor, direction: Tensor, epsilon: float) -> Tensor:
        """Return raw images moved by epsilon along a direction, (N, C, H, W) as both are, and put back into range."""
        size: Tensor | float = epsilon
        if self.space == "normalised":
            size = epsilon * images.new_tensor(self.normalisation.std).view(1, -1, 1, 1)
        moved = images + size * direction
        return moved if self.valid is None else moved.clamp(*self.valid)


def fgsm(
    network: nn.Module,
    images: Tensor,
    targets: Tensor,
    epsilon: float,
    *,
    normalisation: Normalisation | None = None,
    space: Space = "raw",
    valid: Range | None = (0.0, 1.0),
) -> Tensor:
    """Return the images that one step of size epsilon makes hardest for a network: x + epsilon * sign(dL/dx).

    L is the cross-entropy of the network's outputs in evaluation mode. The network is left as it was: its mode, its
    parameters and their gradients.

    Args:
        network: normalised images (N, C, H, W) to outputs before the softmax, (N, classes).
        images: raw float images (N, C, H, W), inside `valid`.
        targets: their classes, int64 (N,).
        epsilon: size of the step, not negative; see `space` for its unit.
        normalisation: what the network was trained with; `Normalisation((0.0,), (1.0,))` if with nothing.
        space: "raw": epsilon is in the units of the images, the same for each channel; "normalised": in standard
            deviations of each channel, as where the step is taken behind the normalisation.
        valid: smallest and largest value that an image may hold; results are clamped to it. None: no limits.

    Returns:
        Raw images, of the shape and on the device of those given.

    Raises:
        AttackError: a number is negative or not finite, the classes are missing or do not fit, there is no
            normalisation, or the network does not give finite outputs (N, classes).

    Source: Goodfellow, Shlens and Szegedy, "Explaining and harnessing adversarial examples", ICLR 2015, section 4.
    """
    threat = threat_of(normalisation, space, valid)
    check_epsilon(epsilon)
    check_batch(images, targets, threat)
    direction, _ = gradient_sign(network, images, targets, threat.normalisation)
    return threat.step(images, direction, epsilon)


def gradient_sign(
    network: nn.Module, images: Tensor, targets: Tensor, normalisation: Normalisation
) -> tuple[Tensor, Tensor]:
    """Return sign(dL/dx) on the images' device, (N, C, H, W), and the network's outputs on the images as they are.

    The gradient is taken behind the normalisation: standard deviations are positive, so the sign is the same.
    """
    with training_flags(network, False), torch.inference_mode(mode=False), torch.enable_grad():
        seen = as_input(network, normalisation(images)).detach().requires_grad_()
        found = network(seen)
        check_outputs(found, targets)
        # Summed, not averaged: what one image gets does not depend on how many are in its batch.
        loss = F.cross_entropy(found.float(), targets.to(found.device), reduction="sum")
        (gradient,) = torch.autograd.grad(loss, seen)
    if not bool(torch.isfinite(gradient).all()):
        raise AttackError("Gradient of the network: it is not finite. Attack it in float32, with finite weights.")
    return gradient.sign().to(images.device, images.dtype), found.detach()


def as_input(network: nn.Module, images: Tensor) -> Tensor:
    """Bring images to the device and the floating type of a network's parameters."""
    like = next((p for p in network.parameters() if p.is_floating_point()), images)
    return images.to(like.device, like.dtype)


def threat_of(normalisation: Normalisation | None, space: str, valid: Range | None) -> Threat:
    """Return a Threat, or raise an AttackError that says what is missing."""
    if normalisation is None:
        raise AttackError(
            "Attack: without the network's normalisation epsilon has no unit. Give normalisation=Normalisation(mean,"
            " std) as in training; mean 0 and std 1 if the network takes raw images."
        )
    if space not in ("raw", "normalised"):
        raise AttackError(f'Attack: space="{space}" is not known. Give "raw" or "normalised".')
    if valid is not None and not (valid[0] < valid[1] and all(map(math.isfinite, valid))):
        raise AttackError(f"Attack: valid={valid} is not a range. Give (smallest, largest), or None for no limits.")
    return Threat(normalisation, cast(Space, space), valid)


def check_epsilon(epsilon: float) -> None:
    """Raise an AttackError if epsilon is no size of a step."""
    if not 0 <= epsilon <= _LARGEST:
        raise AttackError(f"Epsilon {epsilon:g}: it is not the size of a step. Give a number from 0 up, as 2/255.")


def check_batch(images: Tensor, targets: object, threat: Threat) -> None:
    """Raise an AttackError unless images and classes are what an attack needs."""
    if images.ndim != 4 or not images.is_floating_point():
        raise AttackError(
            f"Images: {images.dtype} of shape {tuple(images.shape)} cannot be moved by a fraction. Give raw float"
            f" images (N, C, H, W), uint8 ones divided by 255."
        )
    if not isinstance(targets, Tensor) or targets.is_floating_point() or targets.shape != images.shape[:1]:
        found = f"{targets.dtype} {tuple(targets.shape)}" if isinstance(targets, Tensor) else type(targets).__name__
        raise AttackError(
            f"Classes of {len(images)} images: found {found}. An attack needs to know what is right: give int64 (N,)."
        )
    threat.normalisation.check(images)
    low, high = (float(value) for value in images.aminmax()) if images.numel() else (0.0, 0.0)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise AttackError("Images: some values are not finite. Fix or leave out those images.")
    if threat.valid is not None and not threat.valid[0] <= low <= high <= threat.valid[1]:
        raise AttackError(
            f"Images: their values go from {low:.4g} to {high:.4g}, outside of valid={threat.valid}. Give raw images,"
            f" not normalised ones, or their own range."
        )


def check_outputs(found: object, targets: Tensor) -> None:
    """Raise an AttackError unless a network gave finite outputs (N, classes), with a class for every target."""
    if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != len(targets):
        shown = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
        raise AttackError(f"Network: it gives {shown}, not a score for each class. Attack a classifier, (N, classes).")
    if not bool(torch.isfinite(found).all()):
        raise AttackError("Network: its outputs are not finite. Go back to a checkpoint from before it diverged.")
    if len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) < found.shape[1]:
        raise AttackError(
            f"Classes: they go from {int(targets.min())} to {int(targets.max())}, the network knows {found.shape[1]}."
            f" Give the data that it was trained on."
        )
