"""Operations that data steers: what must stay is pinned, the rest shrinks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.nets.case import case, conv

X = (2, 3, 8, 8)


@case(X, kill={"a": (0, 1), "b": (2, 3)}, kept={"a.weight": (6, 3, 3, 3), "b.weight": (4, 6, 3, 3), "l.weight": (3, 4)})
class FeaturesAtPeaks(nn.Module):
    """Features are taken where a heat map peaks: places lie over space, so the channels are free."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.heat, self.l = conv(3, 8), conv(8, 6), conv(8, 1), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.a(x).relu()
        score, place = self.heat(y).flatten(1).topk(3)
        rows = torch.arange(x.shape[0]).unsqueeze(1)
        return score, self.l(self.b(y).relu().flatten(2).transpose(1, 2)[rows, place])


@case(
    X,
    kill={"a": (0, 1), "b": (2, 3)},
    kept={"a.weight": (6, 3, 3, 3), "b.weight": (6, 6, 3, 3)},
    pins=("it is indexed",),
)
class GatheredChannels(nn.Module):
    """Features gathered with one index for each channel: those stay, what feeds them shrinks."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.l = conv(3, 8), conv(8, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.b(self.a(x).relu()).flatten(2)
        return self.l(y.gather(2, y.argmax(2, keepdim=True)).squeeze(2))


@case(X, kill={"a": (0, 1)}, kept={"a.weight": (8, 3, 3, 3)}, pins=("compares these channels",), smaller=False)
class BestChannels(nn.Module):
    """The best channels of all: each is compared with each."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.l = conv(3, 8), nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.l(self.a(x).amax((2, 3)).topk(2, dim=1).values)


@case(X, kill={"a": (0, 1), "flow": (), "b": (2,)}, kept={"a.weight": (6, 3, 3, 3), "b.weight": (4, 12, 3, 3)})
class Warped(nn.Module):
    """Features warped along a predicted flow, its grid written in place, beside the features themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.flow, self.b, self.c = conv(3, 8), conv(8, 2), conv(16, 5), conv(5, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x).relu()
        n, _, h, w = y.size()
        across = torch.arange(w).view(1, 1, 1, w).expand(n, 1, h, w)
        down = torch.arange(h).view(1, 1, h, 1).expand(n, 1, h, w)
        grid = torch.cat([across, down], 1).to(y) + self.flow(y)
        grid[:, 0] = 2.0 * grid[:, 0].clone() / max(w - 1, 1) - 1.0
        grid[:, 1] = 2.0 * grid[:, 1].clone() / max(h - 1, 1) - 1.0
        warped = F.grid_sample(y, grid.permute(0, 2, 3, 1), align_corners=True)
        return self.c(self.b(torch.cat([y, warped], 1)).relu())


@case(X, kill={"a": (0, 1, 2), "where": (1,)}, kept={"a.weight": (5, 3, 3, 3), "b.weight": (4, 5, 3, 3)})
class Transformed(nn.Module):
    """A spatial transformer: the grid is made from the features' own size, which counts their channels too."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.where, self.b = conv(3, 8), nn.Linear(3, 6), conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x).relu()
        theta = self.where(x.mean((2, 3))).view(-1, 2, 3)
        return self.b(F.grid_sample(y, F.affine_grid(theta, y.size(), align_corners=False), align_corners=False))
