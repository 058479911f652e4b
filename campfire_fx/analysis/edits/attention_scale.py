"""Write out the scale of attention, which is made of the number of query channels, where some of these go."""

from __future__ import annotations

import math
from typing import Any

from torch import fx

from campfire_fx.analysis.after_removal import AfterRemoval
from campfire_fx.analysis.edits.plan import Edit, set_argument

_PLACE = 6


def keep_scale(after: AfterRemoval, node: fx.Node) -> list[Edit]:
    """Return the edit that gives a call of attention the scale that it had, if it needs one."""
    query: Any = node.args[0] if node.args else node.kwargs["query"]
    given = node.args[_PLACE] if len(node.args) > _PLACE else node.kwargs.get("scale")
    before, now = (values[query].shape[-1] for values in (after.run.values, after.values))
    if given is not None or before == now:
        return []

    def apply(_: dict[fx.Node, fx.Node]) -> None:
        set_argument(node, _PLACE, "scale", 1 / math.sqrt(before))

    return [Edit(after.run, node, "scale written out", "it was made of the number of queries' channels", apply)]
