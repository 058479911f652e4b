"""Cut an operation that stands alone: remove the channels outside a keep-set, as a shrink would."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from campfire_fx.analysis.after_removal import Unmovable
from campfire_fx.analysis.compact import Uneven, Vanished, compact_value, cut_like
from campfire_fx.analysis.constants import Constants
from campfire_fx.analysis.edits.movement import plan_rewrites
from campfire_fx.analysis.facts import Facts
from campfire_fx.analysis.labelling import GraphRun
from campfire_fx.analysis.labels import Labelled
from campfire_fx.analysis.liveness import Liveness, find_live
from campfire_fx.analysis.removal import Removal
from campfire_fx.passes import runner
from campfire_fx.passes.drop_dead_nodes import drop_dead_nodes
from campfire_fx.passes.rewrite_movement import rewrite_movement
from campfire_fx.passes.shrink_channels import shrink_channels
from campfire_fx.shrink.follow_labels import check_channels
from tests.analysis.rules.alone import Alone, follow


@dataclass(slots=True, eq=False)
class Cut:
    """What was decided, and what the operation gave before and gives now (flat lists of tensors, pieces that vanish
    left out)."""

    live: Liveness
    before: list[Tensor]
    after: list[Tensor]


def zero_kernels(one: Alone, seed: int) -> None:
    """Set a third of all kernels of every weight to zero, so that outputs can do without inputs."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in one.module.parameters():
            if weight.ndim > 1:
                kept = torch.rand(weight.shape[:2], generator=generator) > 1 / 3
                weight.mul_(kept.view(*kept.shape, *[1] * (weight.ndim - 2)))


def choose(one: Alone, bits: int) -> Tensor:
    """Return the labels, of inputs and results, that a number stands for: the i-th stays if its bit is set."""
    roots = torch.cat([one.free(), one.made()]).unique()
    return torch.tensor([root for i, root in enumerate(roots.tolist()) if bits >> i & 1], dtype=torch.float64)


def decide(one: Alone, keep: Tensor) -> Removal:
    """Find what stays if these labels do, and the edits for it; what cannot be cut out is kept."""
    constants = Constants([{}], {})
    for mixer in one.labelling.structure.mixers.values():  # nothing is known to be constant
        constants.inputs[id(mixer.weight)] = [(c, torch.full((mixer.inputs.numel(),), torch.nan)) for c in mixer.calls]
    while True:
        live = find_live(one.labelling, constants, extra=keep)
        try:
            return Removal(live, plan_rewrites(one.labelling, live))
        except (Unmovable, Uneven) as stuck:
            dead = stuck.labels[~live.alive[live.roots[stuck.labels.long()]]]
            assert dead.numel(), "the operation cannot be rewritten although nothing of it goes"
            keep = torch.cat([keep, dead.double()])


def cut(one: Alone, keep: Tensor) -> Cut:
    """Cut the operation down to a keep-set, in place, and run it before and after."""
    removal = decide(one, keep)
    live = removal.live
    before = _kept(run(one.module, one.inputs), one.labels(), live)
    inputs = [cut_like(x, one.run.values[s].labels, live) for s, x in zip(one.sources, one.inputs, strict=True)]
    facts = Facts(one.labelling.captured, removal)
    facts.labelling = one.labelling
    runner.run(facts, [rewrite_movement, shrink_channels, drop_dead_nodes])
    check_channels(removal)
    runner.recompile(facts.captured)
    after = [t for t in pytree.tree_leaves(run(one.module, inputs)) if isinstance(t, Tensor) and t.numel()]
    return Cut(live, before, after)


def run(module: nn.Module, inputs: Any) -> Any:
    """Run a module on copies of inputs, so that nothing is written into them."""
    torch.manual_seed(0)
    with torch.no_grad():
        return module(*(x.clone() for x in inputs))[0]


def _kept(value: Any, labels: Any, live: Liveness) -> list[Tensor]:
    """Return the tensors in a result without the channels that go."""
    if isinstance(labels, Labelled):
        small = compact_value(labels, live, even=True)
        return [] if isinstance(small, Vanished) else [cut_like(value, labels.labels, live)]
    if isinstance(labels, (tuple, list)):
        return [t for part in zip(value, labels, strict=True) for t in _kept(*part, live)]
    return [value] if isinstance(value, Tensor) and value.numel() else []


def labels_again(one: Alone, live: Liveness, expected: Any) -> Any:
    """Run the rules on the cut graph with compacted labels; returns the labels of the result."""
    sources = [n for n in one.module.graph.nodes if n.op == "placeholder"]
    again = GraphRun(0, one.module, one.module.graph, False, list(one.inputs))
    for source in sources:
        again.values[source] = compact_value(one.run.values[source], live, even=True)
    follow(one.labelling, again)
    result: Any = next(n for n in one.module.graph.nodes if n.op == "output").args[0][0]
    return again.values[result] if isinstance(result, fx.Node) else expected
