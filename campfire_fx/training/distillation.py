"""Distillation: a network learns from the outputs of another one, usually the dense network that it comes from."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def distillation_loss(
    student: Tensor, teacher: Tensor, classes: Tensor, *, weight: float = 0.9, temperature: float = 4.0
) -> Tensor:
    """Return the loss of a classifier that learns from the images' classes and from another classifier.

    (1 - weight) * CE(student, classes) + weight * T^2 * KL(softmax(teacher / T) || softmax(student / T)), the mean over
    the batch (Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015).

    Args:
        student: scores (N, classes), that gradients flow into.
        teacher: scores (N, classes) of the other network on the same images; no gradient flows into them.
        classes: int64 (N,).
        weight: of what the teacher says, in [0, 1].
        temperature: T; the higher, the more the wrong classes count.
    """
    told = F.log_softmax(teacher.detach().float() / temperature, 1)
    said = F.log_softmax(student.float() / temperature, 1)
    imitation = F.kl_div(said, told, reduction="batchmean", log_target=True) * temperature**2
    return (1 - weight) * F.cross_entropy(student.float(), classes) + weight * imitation


@torch.no_grad()
def teach(teacher: nn.Module, images: Tensor) -> Tensor:
    """Return what a teacher says of images, in evaluation mode whatever mode it is in."""
    training = teacher.training
    try:
        return teacher.eval()(images)
    finally:
        teacher.train(training)
