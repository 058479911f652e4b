"""The order of the passes, on one page: from a model with zeros in it to a smaller one with the same output."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from campfire_fx.analysis.after_removal import Unmovable
from campfire_fx.analysis.captured import Captured
from campfire_fx.analysis.channels import require_channels
from campfire_fx.analysis.compact import Uneven
from campfire_fx.analysis.edits.plan import Edit
from campfire_fx.analysis.facts import Analysis, analyse
from campfire_fx.analysis.labelling import Labelling
from campfire_fx.analysis.liveness import Liveness, find_live
from campfire_fx.analysis.plan import ShrinkPlan
from campfire_fx.analysis.rules.structure import Pin
from campfire_fx.base.errors import ShrinkError
from campfire_fx.capture import trace
from campfire_fx.passes.bake_masks import bake_masters
from campfire_fx.passes.bake_reparametrizations import bake_reparametrizations
from campfire_fx.passes.compensate_norms import compensate_norms
from campfire_fx.passes.compute_weights import compute_weights
from campfire_fx.passes.crop_kernels import crop_kernels
from campfire_fx.passes.drop_unused import drop_dead_nodes, drop_unused, used_paths
from campfire_fx.passes.fold_constants import fold_constant_operands
from campfire_fx.passes.gate_residual import gate_residuals
from campfire_fx.passes.gather_columns import gather_columns
from campfire_fx.passes.rewrite_movement import plan_rewrites
from campfire_fx.passes.shrink_channels import Cuts, shrink_channels
from campfire_fx.shrink.copies import borrowing_copy, own_parameters
from campfire_fx.shrink.summarise import summarise

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """How to shrink.

    Attributes:
        residual: "union" keeps a channel of a residual stream while any branch writes it; "gate" also takes it out
            of the branches that do not write or read it, where that pays.
        round_to: keep just enough dead channels for every layer's count to be a multiple of this.
        auxiliary: keep layers that only the training graph uses.
        columns: gather the live columns of convolutions where that is measured to be faster.
        computed: compute weights that are made of parameters alone once, instead of in every call.
        compensate: take constant channels out of norms over channels: "auto", where that pays; "always"; "never".
    """

    residual: str = "union"
    round_to: int = 1
    auxiliary: bool = False
    columns: bool = False
    computed: bool = False
    compensate: str = "never"


@dataclass(slots=True, eq=False)
class Shrunk:
    """The smaller model and everything that was decided about it.

    `originals` pairs each parameter of the model given with its copy that was shrunk.
    """

    captured: Captured
    plan: ShrinkPlan
    cuts: Cuts
    labelling: Labelling
    live: Liveness
    originals: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    @property
    def module(self) -> nn.Module:
        """The smaller model."""
        return self.captured.module


Progress = Callable[[str], None]


def shrink_model(model: nn.Module, example_inputs: Any, options: Options, progress: Progress) -> Shrunk:
    """Capture a private copy of a model and shrink it; the model given is not touched."""
    progress("copying the model")
    working = borrowing_copy(model)
    pairs: list[tuple[Tensor, Tensor]] = list(zip(model.parameters(), working.parameters(), strict=True))
    bake_reparametrizations(working)
    bake_masters(working)
    progress("capturing the graph")
    shrunk = shrink_captured(trace(working, example_inputs, compiled=False), options, progress)
    owned = own_parameters(shrunk.module, model)
    shrunk.originals = [(original, owned.get(id(copied), copied)) for original, copied in pairs]
    return shrunk


def shrink_captured(captured: Captured, options: Options, progress: Progress) -> Shrunk:
    """Shrink a captured model in place."""
    # Phase 1. What is there: which graphs, which channels, which constants.
    if not options.auxiliary:
        drop_auxiliary_graphs(captured)
    computed = compute_weights(captured) if options.computed else ()
    progress("finding the channel structure")
    facts = analyse(captured)
    require_channels(facts.labelling)
    if fold_constant_operands(facts):
        facts = analyse(captured)
    compensated = compensate_norms(facts, options.compensate)
    if compensated:
        facts = analyse(captured)
    if options.residual == "gate" and gate_residuals(facts):
        facts = analyse(captured)

    # Phase 2. What to do: what stays, which operations must be rewritten for it.
    progress("deciding what stays")
    live, edits, pins = decide(facts, options.round_to)
    labelling = facts.labelling

    # Phase 3. Do it.
    progress("cutting the layers")
    replaced: dict[Any, Any] = {}
    for edit in edits:
        edit.apply(replaced)
    cuts = shrink_channels(labelling, live)
    drop_dead_nodes(labelling, live)
    kernels = crop_kernels(labelling, live, cuts)
    if options.columns:
        progress("timing the columns")
    columns = gather_columns(labelling, live, cuts) if options.columns else ()
    for island in captured.islands:
        graphs = [g for g in (island.module.graph, island.module.train_graph) if g is not None]
        drop_unused(island.module, used_paths(graphs))
        for graph in graphs:
            graph.lint()
        island.module.recompile()
    plan = summarise(labelling, live, cuts, edits, (*labelling.structure.pins, *pins))
    repairs = (*computed, *compensated, *plan.repairs)
    plan = replace(plan, repairs=repairs, kernels=kernels, columns=columns, guards=captured.guards)
    return Shrunk(captured, plan, cuts, labelling, live)


def decide(facts: Analysis, round_to: int) -> tuple[Liveness, list[Edit], list[Pin]]:
    """Find what stays; what cannot be cut out after all is kept, and the search repeated."""
    extra = torch.zeros(0)
    pins: list[Pin] = []
    live = facts.live()
    if round_to > 1:
        live = find_live(facts.labelling, facts.constants, round_to=round_to)
    while True:
        try:
            return live, plan_rewrites(facts.labelling, live), pins
        except (Unmovable, Uneven) as stuck:
            dead = stuck.labels[~live.alive[live.roots[stuck.labels.long()]]]
            if not dead.numel():
                raise _stuck(stuck) from None
            where, reason = ("?", "uneven") if isinstance(stuck, Uneven) else (stuck.node.name, stuck.reason)
            pins.append(Pin(where, dead.unique().numel(), reason))
            logger.info("kept %d channels at %s: %s", pins[-1].channels, where, reason)
            extra = torch.cat([extra, dead.double()])
        live = find_live(facts.labelling, facts.constants, round_to=round_to, extra=extra)


def _stuck(stuck: Unmovable | Uneven) -> ShrinkError:
    where = "?" if isinstance(stuck, Uneven) else stuck.node.name
    reason = "its channels are uneven" if isinstance(stuck, Uneven) else stuck.reason
    return ShrinkError(
        f"Shrinking cannot rewrite {where}: {reason}, although no channel of it goes. Please report this model; "
        "as a workaround, put the operation into a submodule with a forward hook, which keeps it whole."
    )


def drop_auxiliary_graphs(captured: Captured) -> None:
    """Let a model train with its inference graph where its training graph uses further layers."""
    for island in captured.islands:
        extra = island.module.train_graph
        if extra is not None and used_paths([extra]) - used_paths([island.module.graph]):
            island.module.train_graph = None
