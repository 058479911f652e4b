"""The mask of one layer as a grid of kernels: filters by channels, and inside each kernel its positions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from campfire_fx.base.errors import ReportError
from campfire_fx.report.pictures.canvas import DEAD as DEAD_COLOUR
from campfire_fx.report.pictures.canvas import INK, PALE, SMALL, TEXT, WIDTH, figure, label
from campfire_fx.report.pictures.canvas import KEPT as KEPT_COLOUR
from campfire_fx.report.pictures.canvas import ZERO as ZERO_COLOUR

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

KEPT, ZERO, DEAD, GAP = 0, 1, 2, 3
_COLOURS = (KEPT_COLOUR, ZERO_COLOUR, DEAD_COLOUR, "none")
_NAMES = ("kept", "zero in a live kernel", "in a dead kernel")
_DOTS, _LINE = 6, 2  # image points for one weight, and for the line between kernels


def mask_grid(mask: Tensor, *, name: str = "", most: int = 32) -> Figure:
    """Draw a mask: each square is a kernel, each point in it a weight.

    Filters run down and channels across; where a layer has few channels per filter, filters run across. The depth of a
    3-D kernel is laid out below itself, a weight of a linear layer is a kernel of one point.

    Args:
        mask: of a layer's weight, (K, C, ...) with C in per group; True or non-zero = kept.
        name: of the layer, for the title.
        most: show no more than the first `most` filters and channels; the title says so.

    Raises:
        ReportError: the mask is no mask of a weight, or matplotlib is not installed.
    """
    if mask.ndim < 2 or not mask.numel() or most < 1:
        raise ReportError(
            f"Mask of {name or 'a layer'}: shape {tuple(mask.shape)}, first {most}: there is nothing to show. Give the"
            f" mask of a weight, (K, C, ...), and a positive number."
        )
    filters, channels = min(most, mask.shape[0]), min(most, mask.shape[1])
    kinds = kinds_of(mask)[:filters, :channels]
    across = channels * 2 < filters
    grid = _tiles(kinds.transpose(1, 0, 2, 3) if across else kinds)
    height = 2.0 + (WIDTH - 0.7) * min(1.0, grid.shape[0] / grid.shape[1])
    drawn, axes = figure(height, title=f"Mask of {name}" if name else "Mask", note=_told(mask, filters, channels))
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    axes.imshow(grid, cmap=ListedColormap(_COLOURS), vmin=0, vmax=3, interpolation="none", aspect="equal")
    steps = [size * _DOTS + _LINE for size in kinds.shape[2:]]
    _ticks(axes.xaxis, filters if across else channels, steps[1])
    _ticks(axes.yaxis, channels if across else filters, steps[0])
    sides = ("input channel", "filter (output channel)")
    label(axes, *(sides[::-1] if across else sides))
    for spine in axes.spines.values():
        spine.set_visible(False)
    names = _NAMES if kinds[0, 0].size > 1 else ("kept", "", "zero")  # a kernel of one weight lives or is dead
    patches = [Patch(facecolor=colour, label=text) for colour, text in zip(_COLOURS, names, strict=False) if text]
    drawn.legend(handles=patches, loc="outside lower center", ncols=3, fontsize=SMALL, frameon=False, labelcolor=INK,
                 columnspacing=1, handlelength=1)  # fmt: skip
    return drawn


def kinds_of(mask: Tensor) -> np.ndarray[Any, np.dtype[np.int8]]:
    """Return KEPT, ZERO or DEAD for every weight, (K, C, R, S)."""
    kept = mask.detach().cpu().numpy() != 0
    sides = kept.shape[2:] or (1,)
    kept = kept.reshape(*kept.shape[:2], int(np.prod(sides[:-1])), sides[-1])
    live = kept.any((2, 3), keepdims=True)
    return np.where(kept, KEPT, np.where(live, ZERO, DEAD)).astype(np.int8)


def _tiles(kinds: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Lay kernels (rows, columns, R, S) out as one image, with a line of GAP between them."""
    points = kinds.repeat(_DOTS, 2).repeat(_DOTS, 3)
    points = np.pad(points, ((0, 0), (0, 0), (0, _LINE), (0, _LINE)), constant_values=GAP)
    rows, columns, height, width = points.shape
    return points.transpose(0, 2, 1, 3).reshape(rows * height, columns * width)


def _ticks(axis: Any, kernels: int, step: int) -> None:
    every = next(n for n in (1, 2, 4, 8, 16, 32, 64, kernels) if kernels / n <= 10 or n == kernels)
    shown = range(0, kernels, every)
    axis.set_ticks([i * step + (step - _LINE) / 2 for i in shown], [str(i) for i in shown], fontsize=SMALL)
    axis.set_tick_params(length=0, color=PALE)
    axis.label.set_size(TEXT)


def _told(mask: Tensor, filters: int, channels: int) -> str:
    kept = mask.detach() != 0
    live = kept.flatten(2).any(2) if kept.ndim > 2 else kept
    dead_filters = int((~live.any(1)).sum())
    told = f"{'x'.join(map(str, mask.shape))}: {100 * (1 - float(kept.float().mean())):.1f} % zero;"
    if live.numel() < kept.numel():
        told += f" {int((~live).sum()):,} of {live.numel():,} kernels and"
    told += f" {dead_filters:,} of {len(live):,} filters dead"
    if (filters, channels) != tuple(mask.shape[:2]):
        told += f"; shown: the first {filters} filters and {channels} channels"
    return told
