"""Attack several networks on the same images, each by its own gradient, and count what they still know."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from campfire_fx.app.robustness.fgsm import (
    Range,
    Space,
    Threat,
    as_input,
    check_batch,
    check_epsilon,
    gradient_sign,
    threat_of,
)
from campfire_fx.app.robustness.normalisation import Normalisation
from campfire_fx.base.errors import AttackError
from campfire_fx.base.numbers import plain
from campfire_fx.base.untouched import training_flags
from campfire_fx.report.attack_record import AttackRecord, record_of

TUTORIAL_EPSILONS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
"""Those of PyTorch's FGSM tutorial, which Campfire says it used: without the 0, as many as Table 6 has columns."""


def attack(
    networks: Mapping[str, nn.Module],
    batches: Iterable[tuple[Tensor, Tensor]],
    epsilons: Sequence[float] = TUTORIAL_EPSILONS,
    *,
    normalisation: Normalisation | None = None,
    space: Space = "raw",
    valid: Range | None = (0.0, 1.0),
    advance: Callable[[int], object] = lambda _: None,
) -> AttackRecord:
    """Measure the accuracy of networks under FGSM steps of several sizes, each attacked by its own gradient.

    An image counts as known under an attack if it is classified correctly both before and after, as in the tutorial
    that Campfire followed: a mistake that the attack undoes by accident is none of the network's merit. So accuracy
    at epsilon 0 is the plain one, and no other is above it.

    Args:
        networks: by the name they are shown with; the first is what the others are compared with.
        batches: (raw images, classes), as `fgsm` takes them; gone through once.
        epsilons: sizes of the step; 0 is added where it is missing.
        normalisation: what the networks were trained with, as `fgsm` takes it.
        space: unit of epsilon, as `fgsm` takes it.
        valid: range of the images, as `fgsm` takes it.
        advance: called after each batch with its number of images, to show how far this is.

    Raises:
        AttackError: as `fgsm`; or there is no network, or no image.

    Source: Campfire, Table 6; the FGSM tutorial of PyTorch.
    """
    threat = threat_of(normalisation, space, valid)
    for epsilon in epsilons:
        check_epsilon(epsilon)
    if not networks:
        raise AttackError("Attack: there is no network to attack. Give at least one.")
    steps = tuple(sorted({0.0, *(float(plain(epsilon)) for epsilon in epsilons)}))
    known: dict[str, list[Tensor]] = {name: [] for name in networks}
    unmoved = dict.fromkeys(networks, 0)
    for batch in batches:
        images, targets = _pair(batch)
        check_batch(images, targets, threat)
        for name, network in networks.items():
            try:
                right, blind = _under_attack(network, images, targets, steps, threat)
            except AttackError as error:
                raise AttackError(f"{name}: {error}") from None
            known[name].append(right)
            unmoved[name] += blind
        advance(len(images))
    if not any(known.values()) or not sum(part.shape[1] for part in next(iter(known.values()))):
        raise AttackError("Attack: there is no image to attack. Give a split that holds some.")
    return record_of(steps, threat.space, {name: torch.cat(parts, 1) for name, parts in known.items()}, unmoved)


def _pair(batch: object) -> tuple[Tensor, Tensor]:
    if not isinstance(batch, Sequence) or len(batch) != 2 or not isinstance(batch[0], Tensor):
        raise AttackError(
            "Batch: it is not a pair (images, classes). An attack needs the classes, so give data with them."
        )
    return batch[0], batch[1]


def _under_attack(
    network: nn.Module, images: Tensor, targets: Tensor, steps: Sequence[float], threat: Threat
) -> tuple[Tensor, int]:
    """Return which images are known at each step, bool (steps, N) on the CPU, and how many no gradient moves."""
    direction, outputs = gradient_sign(network, images, targets, threat.normalisation)
    plain = (outputs.argmax(1).to(targets.device) == targets).cpu()
    rows = []
    for epsilon in steps:
        if epsilon == 0:
            rows.append(plain)
            continue
        with training_flags(network, False), torch.no_grad():
            found = network(as_input(network, threat.normalisation(threat.step(images, direction, epsilon))))
        rows.append(plain & (found.argmax(1).to(targets.device) == targets).cpu())
    return torch.stack(rows), int((direction.flatten(1) == 0).all(1).sum())
