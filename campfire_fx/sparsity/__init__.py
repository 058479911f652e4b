"""Sparsity regimes as compositions: granularity x score x scope x schedule x update.

Weights are seen as (K, C, P): filters, channels per filter, positions in a kernel. A new method is a file in
`regimes/` that puts the parts together; a new part is one function or one small frozen record.
"""

from __future__ import annotations

from campfire_fx.sparsity.budget import ERK, Budget, ByMomentum
from campfire_fx.sparsity.channels.costs import SetCost, set_costs
from campfire_fx.sparsity.channels.coupling import CoupledLayer, CoupledSet, CoupledVector, Coupling, Stays
from campfire_fx.sparsity.entry import RegimeEntry
from campfire_fx.sparsity.exchange import Exchange, ExchangeOverLayers, Moment, OpenLayer
from campfire_fx.sparsity.gradual import Gradual
from campfire_fx.sparsity.granularity import CHANNEL, COLUMN, ELEMENT, FILTER, KERNEL, Granularity, block, column_block
from campfire_fx.sparsity.layer import PrunedLayer, monotone
from campfire_fx.sparsity.method import Method
from campfire_fx.sparsity.penalty import LASSO, LOG, RIDGE, GradientPenalty, Penalty, ProximalPenalty
from campfire_fx.sparsity.prunable import Fit, PrunableLayer
from campfire_fx.sparsity.record import LayerSparsity, SparsityRecord
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.regimes import REGIMES, find_regimes, regime_named
from campfire_fx.sparsity.regimes.admm import Admm, admm, admm_in_turn
from campfire_fx.sparsity.regimes.campfire import block_fc, ck, combined, fine_fc, inter_epoch, window
from campfire_fx.sparsity.regimes.chase import chase
from campfire_fx.sparsity.regimes.deepr import deepr
from campfire_fx.sparsity.regimes.dsr import dsr
from campfire_fx.sparsity.regimes.grouped import FilterGroups, grouped
from campfire_fx.sparsity.regimes.lottery_ticket import lottery_ticket
from campfire_fx.sparsity.regimes.magnitude import filters, n_of_m, one_by_n, unstructured
from campfire_fx.sparsity.regimes.rigl import rigl
from campfire_fx.sparsity.regimes.sr_ste import sr_ste
from campfire_fx.sparsity.regimes.srigl import srigl
from campfire_fx.sparsity.regimes.swat import DenseWeights, swat_erk, swat_m, swat_structured, swat_u
from campfire_fx.sparsity.schedule import Constant, Polynomial, Rounds, Schedule, Stages, Throughout
from campfire_fx.sparsity.scope import (
    WITHIN_CHANNEL,
    WITHIN_FILTER,
    WITHIN_KERNEL,
    WITHIN_LAYER,
    OverLayers,
    Scope,
    by_deviation,
    by_norm,
    lamp,
    over_layers,
    runs,
)
from campfire_fx.sparsity.score import at_random, l1, l2, largest
from campfire_fx.sparsity.selection import Cut, Goal, Rule
from campfire_fx.sparsity.slices import ChannelsOfLayers, CoupledGroups, InLayers, NormScales
from campfire_fx.sparsity.threshold import Below
from campfire_fx.sparsity.topk import TopK

DenseMaster = DenseWeights  # its former name

__all__ = [
    "CHANNEL",
    "COLUMN",
    "ELEMENT",
    "ERK",
    "FILTER",
    "KERNEL",
    "LASSO",
    "LOG",
    "REGIMES",
    "RIDGE",
    "WITHIN_CHANNEL",
    "WITHIN_FILTER",
    "WITHIN_KERNEL",
    "WITHIN_LAYER",
    "Admm",
    "Below",
    "Budget",
    "ByMomentum",
    "ChannelsOfLayers",
    "Constant",
    "CoupledGroups",
    "CoupledLayer",
    "CoupledSet",
    "CoupledVector",
    "Coupling",
    "Cut",
    "DenseMaster",
    "DenseWeights",
    "Exchange",
    "ExchangeOverLayers",
    "FilterGroups",
    "Fit",
    "Goal",
    "GradientPenalty",
    "Gradual",
    "Granularity",
    "InLayers",
    "LayerSparsity",
    "Method",
    "Moment",
    "NormScales",
    "OpenLayer",
    "OverLayers",
    "Penalty",
    "Polynomial",
    "ProximalPenalty",
    "PrunableLayer",
    "PrunedLayer",
    "Regime",
    "RegimeEntry",
    "Rounds",
    "Rule",
    "Schedule",
    "Scope",
    "SetCost",
    "SparsityRecord",
    "Stages",
    "Stays",
    "Throughout",
    "TopK",
    "admm",
    "admm_in_turn",
    "at_random",
    "block",
    "block_fc",
    "by_deviation",
    "by_norm",
    "chase",
    "ck",
    "column_block",
    "combined",
    "deepr",
    "dsr",
    "filters",
    "find_regimes",
    "fine_fc",
    "grouped",
    "inter_epoch",
    "l1",
    "l2",
    "lamp",
    "largest",
    "lottery_ticket",
    "monotone",
    "n_of_m",
    "one_by_n",
    "over_layers",
    "regime_named",
    "rigl",
    "runs",
    "set_costs",
    "sr_ste",
    "srigl",
    "swat_erk",
    "swat_m",
    "swat_structured",
    "swat_u",
    "unstructured",
    "window",
]
