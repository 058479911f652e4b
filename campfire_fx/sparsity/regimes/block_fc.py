"""Block pruning of linear layers."""

from __future__ import annotations

from campfire_fx.base.errors import RegimeError
from campfire_fx.base.numbers import plain
from campfire_fx.sparsity.granularity import block
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.scope import WITHIN_LAYER
from campfire_fx.sparsity.score import l1
from campfire_fx.sparsity.selection import Cut


def block_fc(size: int = 5) -> Regime:
    """Remove n x n blocks of each linear layer, those of the smallest sum of magnitudes (Campfire, 2.1.2; n = 5).

    Every output keeps at least one block. The paper does not say what becomes of blocks cut short by the edge:
    here they are ranked by their mean, which for whole blocks is the order of the sums.

    Raises:
        RegimeError: the size is not a whole number from 1 up.
    """
    size = plain(size)
    if type(size) is not int or size < 1:
        raise RegimeError(
            f"regime 'block-fc': blocks of {size!r} hold no weight. Give a whole number; the paper has 5."
        )
    blocks = Cut(block(size), l1, WITHIN_LAYER, guard=True)
    return Regime("block-fc", spatial=None, pointwise=None, linear=blocks)
