"""Tables of parameters of which an input's size says how much is read."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tests.nets.case import case, conv

X = (2, 3, 8, 8)


def _zero_table(rows: int) -> Any:
    """Make channels 0 to 2 zero in some rows of a table."""

    def damage(net: Any) -> None:
        net.table[:rows, :3] = 0

    return damage


class _Rows(nn.Module):
    """Adds a row of a table to each token, as many as there are."""

    def __init__(self, take: Any) -> None:
        super().__init__()
        self.a, self.b, self.take = conv(3, 8), nn.Linear(8, 4), take
        self.table = nn.Parameter(torch.randn(200, 8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).flatten(2).transpose(1, 2)
        return self.b(x + self.take(self.table, x.shape[1]))


@case(X, kill={"a": (0, 1, 2)}, damage=_zero_table(200), kept={"a.weight": (5, 3, 3, 3), "table": (200, 5)})
def FirstRows() -> nn.Module:
    """A table of positions, of which as many rows are read as there are tokens."""
    return _Rows(lambda table, count: table[:count])


@case(
    X, kill={"a": (0, 1, 2)}, damage=_zero_table(64), kept={"a.weight": (8, 3, 3, 3), "table": (200, 8)}, smaller=False
)
def FirstRowsAreOthers() -> nn.Module:
    """Rows that the example does not read are no zeros, although those that it reads are."""
    return _Rows(lambda table, count: table.narrow(0, 0, count))


@case(X, kill={"a": (0, 1, 2)}, damage=_zero_table(200), kept={"a.weight": (5, 3, 3, 3), "table": (200, 5)})
def RowsAtPlaces() -> nn.Module:
    """Rows at places that are counted out for the input."""
    return _Rows(lambda table, count: table[torch.arange(count - 1, -1, -1)])
