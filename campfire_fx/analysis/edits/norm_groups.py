"""Say anew how many groups a GroupNorm has, where some of them go whole."""

from __future__ import annotations

from typing import Any

from torch import fx

from campfire_fx.analysis.after_removal import AfterRemoval
from campfire_fx.analysis.edits.plan import Edit, set_argument


def count_groups(after: AfterRemoval, node: fx.Node) -> list[Edit]:
    """Return the edit that tells a norm, a layer or a function, how many groups are left, if it needs one."""
    rows = after.labelling.structure.wholes.get(node)
    if rows is None or (keeps := after.live.keeps(rows[:, 0])).all():
        return []
    module: Any = after.run.submodule(node)
    left = int(keeps.sum())

    def apply(_: dict[fx.Node, fx.Node]) -> None:
        if module is None:
            set_argument(node, 1, "num_groups", left)
        else:
            module.num_groups = left

    action, reason = f"{len(rows)} groups to {left}", "whole groups of its channels were removed"
    return [Edit(after.run, node, action, reason, apply)]
