"""Channels by reconstruction of the next layer: ThiNet (Luo et al. 2017) and LASSO channels (He et al. 2017)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from campfire_fx.sparsity.channels.choice import EVEN
from campfire_fx.sparsity.coupled_channels import channels
from campfire_fx.sparsity.entry import RegimeEntry
from campfire_fx.sparsity.reconstruction import Reconstructing
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.schedule import Constant


def thinet(target: Any = None, at_least: float | None = None, round_to: int | None = None) -> Regime:
    """Remove greedily the channels without which the next layer's outputs change least; scale what is left to repair.

    Luo et al. 2017, arXiv 1707.06342, and the authors' code: channels are added one by one to those that go, next the
    one with which the sum over sampled outputs of (sum of what they bring)^2 is the smallest; then each input channel
    that is left is scaled by least squares. Call `gather` first; masks move once, as the era begins, or by `finalize`.

    Left open: the paper goes layer by layer, with training in between, here all sets are pruned at once; a set that
    several layers read is judged by the sum over them; outputs are all filters at ten places of each image, where the
    authors draw filters too. Layers that read otherwise than as 2-D convolutions or linear layers are not seen.
    """
    return _reconstructed("thinet", "greedy", target=target, at_least=at_least, round_to=round_to)


def lasso_channels(target: Any = None, at_least: float | None = None, round_to: int | None = None) -> Regime:
    """Remove the channels that enter the LASSO path last, by which the next layer is reconstructed; scale the others.

    He et al. 2017, arXiv 1707.06168: min over b of |Y - sum of b_c * X_c * W_c|^2 / 2 + strength * |b|_1, where the
    strength grows until few enough are left. Otherwise as `thinet`.

    Left open: the paper then solves for all weights of the next layer by least squares, here for one factor of each
    channel, and for the inputs of a pruned network layer by layer, here for those of the whole one.
    """
    return _reconstructed("lasso-channels", "lasso", target=target, at_least=at_least, round_to=round_to)


def _reconstructed(name: str, order: str, **given: Any) -> Regime:
    return channels(name, schedule=Constant, kind=Reconstructing, more={"order": order}, scope=EVEN, **given)


_GREEDY = RegimeEntry(
    name="thinet",
    make=thinet,
    does="removes, one by one, the channels that change the next layer's output least; rescales the others",
    family="channels",
    granularity="coupled channel",
    gains="channels",
    source="Luo et al. 2017, arXiv 1707.06342",
    needs=("data", "epochs after"),
)
_PATH = "chooses channels by LASSO on the next layer's output, and rescales them by least squares"
_LASSO = replace(
    _GREEDY, name="lasso-channels", make=lasso_channels, does=_PATH, source="He et al. 2017, arXiv 1707.06168"
)
ENTRIES = (_GREEDY, _LASSO)
