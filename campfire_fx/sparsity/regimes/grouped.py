"""Groups of filters: sets that each keep as many inputs, their own; a gather and a grouped convolution to any runtime.

The idea is that of learned group convolutions (CondenseNet, arXiv 1711.09224, sec. 3.1), where filters of a group
lose the same inputs, those whose weights have the smallest sum of magnitudes in it. There the filters of a group are
neighbours; here they are those that need the same inputs.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from campfire_fx.base.errors import RegimeError
from campfire_fx.base.numbers import plain
from campfire_fx.sparsity.entry import RegimeEntry
from campfire_fx.sparsity.filter_sets import filter_sets, number_of_sets, set_needs
from campfire_fx.sparsity.prunable import Fit, PrunableLayer
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.selection import Goal, lowest, nearest


@dataclass(frozen=True, slots=True)
class FilterGroups:
    """Divide the filters into `groups` sets; each loses the round(s * C) inputs that matter least to it.

    What an input matters to a set is the sum of magnitudes of the kernels that read it. The sets are those for which
    most is left at the final sparsity (`filter_sets`), and stay so while they read different inputs: a filter that
    changed its set would lose what only one of the two has kept. Filters that do not divide into so many sets have the
    next smaller number that they do divide into; every set keeps at least one input.
    """

    groups: int = 4

    def __call__(self, weight: Tensor, mask: Tensor, goal: Goal) -> Tensor:
        """Propose a mask: see `Rule`. Computed on the CPU in float64, so that all processes of a run agree."""
        channels = weight.shape[1]
        needs = weight.abs().double().masked_fill(~mask, 0).sum(-1).cpu()
        alive = mask.any(-1).cpu()
        now, final = (min(nearest(channels, s), channels - 1) for s in (goal.sparsity, goal.final))
        count = number_of_sets(len(weight), self.groups)
        sets = filter_sets(needs, alive, count, channels - final)
        gone = lowest(set_needs(needs, alive, sets, count), now)
        return mask & ~gone[sets].unsqueeze(-1).to(mask.device)


@dataclass(frozen=True, slots=True)
class Divisible:
    """Says whether the filters of a layer can read inputs of their own, and where there are fewer sets than asked."""

    groups: int

    def __call__(self, layer: PrunableLayer) -> Fit:
        """See `Fits`."""
        filters, channels = layer.shape[:2]
        count = number_of_sets(filters, self.groups)
        if "Transpose" in layer.operation:
            return Fit(False, "transposed convolutions stay dense")
        if layer.groups > 1:
            return Fit(False, "its filters are in groups already")
        if channels == 1 or count == 1:
            return Fit(False, f"{filters} filters of {channels} inputs do not divide into sets of equal size")
        return Fit(True, "" if count == self.groups else f"{count} sets, since {filters} filters do not divide by more")


def grouped(groups: int = 4) -> Regime:
    """Keep, for each of so many sets of a convolution's filters, the inputs that matter most to it.

    The parts are whole: `shrink(groups=True)` makes a smaller dense convolution of them. Linear layers stay dense,
    since no runtime has a grouped product for them.

    Raises:
        RegimeError: the number of groups is not a whole number from 2 up.
    """
    groups = plain(groups)
    if type(groups) is not int or groups < 2:
        raise RegimeError(f"groups: {groups!r} is no number of sets. Give a whole number from 2 up; 4 is usual.")
    rule = FilterGroups(groups)
    return Regime("grouped", spatial=rule, pointwise=rule, linear=None, fits=Divisible(groups))


ENTRIES = (
    RegimeEntry(
        name="grouped",
        make=grouped,
        does="groups filters into sets and prunes the inputs that each set needs least; linear layers stay dense",
        family="pattern",
        granularity="input of a set of filters",
        gains="groups",
        source="Huang et al. 2018, arXiv 1711.09224, section 3.1, with sets of filters that need the same inputs",
    ),
)
