"""Masks before the training, from data and initial weights: SNIP (Lee et al. 2019) and GraSP (Wang et al. 2020)."""

from __future__ import annotations

from campfire_fx.sparsity.before_training import FromCurvature, FromProducts
from campfire_fx.sparsity.entry import RegimeEntry
from campfire_fx.sparsity.granularity import ELEMENT
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.schedule import Throughout
from campfire_fx.sparsity.scope import over_layers
from campfire_fx.sparsity.score import largest
from campfire_fx.sparsity.selection import Cut


def snip() -> Regime:
    """Keep the weights of largest |w * dL/dw| in the whole network, once, before the first step; then train those.

    Lee et al. 2019, arXiv 1810.02340: connection sensitivity, the derivative of the loss by a gate on each weight. The
    gradients are those of `gather`, or else of the batch of the first training step, which then enter it masked.

    Left open: the paper measures on weights of a variance scaling initialisation: initialise so before `sparsify`.
    Every layer keeps a weight at least.
    """
    cut = Cut(ELEMENT, largest, over_layers())
    return Regime("snip", cut, cut, cut, schedule=Throughout, update=FromProducts(), stem=True)


def grasp() -> Regime:
    """Remove the weights of largest -w * (H g) in the whole network, once, before the training (GraSP).

    Wang et al. 2020, arXiv 2002.07376, and the authors' code: what is left keeps the norm of the gradient g; H is the
    Hessian of the loss, and H g is summed over the batches of `gather`, which has to be called before `attach`.

    Left open: the authors' code gathers 25 images of each class, divides logits by 200 (do so in the `loss_fn`), and
    initialises linear layers anew for it. Every layer keeps a weight at least.
    """
    cut = Cut(ELEMENT, largest, over_layers())
    return Regime("grasp", cut, cut, cut, schedule=Throughout, update=FromCurvature(), stem=True)


ENTRIES = (
    RegimeEntry(
        name="snip",
        make=snip,
        does="prunes once, before training: the weights with the smallest product of weight and gradient",
        family="early",
        granularity="weight",
        gains="weights",
        source="Lee et al. 2019, arXiv 1810.02340",
        needs=("gradients",),
    ),
    RegimeEntry(
        name="grasp",
        make=grasp,
        does="prunes once, before training: the weights whose removal reduces the gradient norm least",
        family="early",
        granularity="weight",
        gains="weights",
        source="Wang et al. 2020, arXiv 2002.07376",
        needs=("steps before",),
    ),
)
