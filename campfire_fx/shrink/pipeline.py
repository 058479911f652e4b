"""The order of the passes, on one page: from a model with zeros in it to a smaller one with the same output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from campfire_fx.analysis.captured import Captured
from campfire_fx.analysis.channels import require_channels
from campfire_fx.analysis.facts import Facts
from campfire_fx.analysis.plan import ShrinkPlan
from campfire_fx.analysis.removal import Removal
from campfire_fx.capture import trace
from campfire_fx.layers.bake_masks import bake_masks
from campfire_fx.layers.bake_reparametrizations import bake_reparametrizations
from campfire_fx.layers.masked import MaskedLayer
from campfire_fx.passes.compensate_norms import compensate_norms
from campfire_fx.passes.compute_weights import compute_weights
from campfire_fx.passes.crop_kernels import crop_kernels
from campfire_fx.passes.drop_auxiliary import drop_auxiliary
from campfire_fx.passes.drop_dead_nodes import drop_dead_nodes
from campfire_fx.passes.drop_unused import drop_unused
from campfire_fx.passes.fold_constants import fold_constants
from campfire_fx.passes.fold_norms import fold_norms
from campfire_fx.passes.gate_residual import gate_residual
from campfire_fx.passes.gather_columns import gather_columns
from campfire_fx.passes.group_filters import group_filters
from campfire_fx.passes.rewrite_movement import rewrite_movement
from campfire_fx.passes.runner import Pass, recompile, run
from campfire_fx.passes.shrink_channels import shrink_channels
from campfire_fx.shrink.copies import borrowing_copy, own_parameters, private_copy
from campfire_fx.shrink.follow_labels import check_channels
from campfire_fx.shrink.summarise import summarise


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
        fold_norms: fold BatchNorms into the layers before them.
        groups: convolve in groups where filters fall into sets with inputs of their own, and that is measured to be
            faster.
    """

    residual: str = "union"
    round_to: int = 1
    auxiliary: bool = False
    columns: bool = False
    computed: bool = False
    compensate: str = "never"
    fold_norms: bool = False
    groups: bool = False


@dataclass(slots=True, eq=False)
class Shrunk:
    """The smaller model and everything that was decided about it.

    Attributes:
        facts: of the graphs before channels were removed, with the removal.
        plan: what was done, for people.
        originals: pairs of each parameter of the model given and its copy that was shrunk.
    """

    facts: Facts
    plan: ShrinkPlan
    originals: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    @property
    def captured(self) -> Captured:
        """The smaller model with its graphs."""
        return self.facts.captured

    @property
    def removal(self) -> Removal:
        """What was decided, and how tensors were cut."""
        return self.facts.decided

    @property
    def module(self) -> nn.Module:
        """The smaller model."""
        return self.captured.module


Progress = Callable[[str], None]


def shrink_model(model: nn.Module, examples: list[Any], options: Options, progress: Progress) -> Shrunk:
    """Capture a private copy of a model and shrink it; the model given is not touched."""
    progress("copying the model")
    masked = any(isinstance(module, MaskedLayer) for module in model.modules())
    working = private_copy(model) if masked else borrowing_copy(model)  # masks are applied to the weights
    pairs: list[tuple[Tensor, Tensor]] = list(zip(model.parameters(), working.parameters(), strict=True))
    bake_reparametrizations(working)
    bake_masks(working)
    progress("capturing the graph")
    shrunk = shrink_captured(trace(working, examples=examples, compiled=False), options, progress)
    owned = own_parameters(shrunk.module, model)
    shrunk.originals = [(original, owned.get(id(copied), copied)) for original, copied in pairs]
    return shrunk


def shrink_captured(captured: Captured, options: Options, progress: Progress) -> Shrunk:
    """Shrink a captured model in place."""
    # Phase 1. What is there: which graphs, which channels, which constants.
    simplified = run(Facts(captured), simplifying(options))
    progress("finding the channel structure")
    require_channels(simplified.facts.labelling)
    freed = run(simplified.facts, freeing(options))

    # Phase 2. What to do: what stays, which operations must be rewritten for it.
    progress("deciding what stays")
    facts = freed.facts
    facts.decide(options.round_to)

    # Phase 3. Do it.
    progress("cutting the layers")
    cut = run(facts, cutting(options), progress)
    check_channels(facts.decided)
    recompile(captured)
    return Shrunk(facts, summarise(facts, (*simplified.done, *freed.done, *cut.done)))


def simplifying(options: Options) -> list[Pass]:
    """Return the passes that need to know nothing of channels."""
    return _asked(
        (drop_auxiliary, not options.auxiliary),
        (compute_weights, options.computed),
    )


def freeing(options: Options) -> list[Pass]:
    """Return the passes after which more channels can go."""
    return _asked(
        (fold_constants, True),
        (compensate_norms.given(wish=options.compensate), options.compensate != "never"),
        (gate_residual, options.residual == "gate"),
    )


def cutting(options: Options) -> list[Pass]:
    """Return the passes that carry a removal out."""
    return _asked(
        (rewrite_movement, True),
        (shrink_channels, True),
        (drop_dead_nodes, True),
        (crop_kernels, True),
        (gather_columns, options.columns),
        (fold_norms, options.fold_norms),  # before selections come between layers and norms
        (group_filters, options.groups),
        (drop_unused, True),
    )


def _asked(*passes: tuple[Pass, bool]) -> list[Pass]:
    return [one for one, asked_for in passes if asked_for]
