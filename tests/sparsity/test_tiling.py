"""Tiles: a view that can be undone, whatever divides what."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from campfire_fx.sparsity.granularity import CHANNEL, COLUMN, ELEMENT, FILTER, KERNEL, block
from campfire_fx.sparsity.scope import WITHIN_CHANNEL, WITHIN_FILTER, WITHIN_KERNEL, WITHIN_LAYER, runs
from campfire_fx.sparsity.tiling import tiles, untiles

LENGTH = st.integers(1, 7)
SHAPE = st.tuples(LENGTH, LENGTH, LENGTH)
TILE = st.tuples(*[st.none() | st.integers(1, 5)] * 3)


@given(SHAPE, TILE)
def test_untiles_undoes_tiles(shape: tuple[int, int, int], tile: tuple[int | None, int | None, int | None]) -> None:
    tensor = torch.arange(torch.Size(shape).numel()).reshape(shape)
    assert torch.equal(untiles(tiles(tensor, tile, -1), tile, shape), tensor)


@given(SHAPE, TILE)
def test_a_tile_holds_neighbours(shape: tuple[int, int, int], tile: tuple[int | None, int | None, int | None]) -> None:
    sizes = [length if size is None else size for size, length in zip(tile, shape, strict=True)]
    for axis, size in enumerate(sizes):
        position = torch.arange(shape[axis]).reshape([-1 if a == axis else 1 for a in range(3)]).expand(shape)
        boxes = tiles(position, tile, -1)
        for box in boxes.flatten(0, 2):
            real = box[box >= 0]
            assert real.numel() == 0 or int(real.max() - real.min()) < size
            assert len({int(value) // size for value in real}) <= 1


def test_granularities_group_what_they_are_named_for() -> None:
    weight = torch.randn(4, 6, 9)
    grids = {
        ELEMENT: (4, 6, 9),
        KERNEL: (4, 6, 1),
        FILTER: (4, 1, 1),
        CHANNEL: (1, 6, 1),
        COLUMN: (1, 6, 9),
        block(4): (1, 2, 9),
    }
    for granularity, grid in grids.items():
        assert granularity.split(weight).shape[:3] == grid, granularity
    assert torch.equal(FILTER.split(weight)[2, 0, 0].sort().values, weight[2].flatten().sort().values)
    assert torch.equal(CHANNEL.split(weight)[0, 5, 0].sort().values, weight[:, 5].flatten().sort().values)
    assert torch.equal(COLUMN.split(weight)[0, 5, 8], weight[:, 5, 8])


@given(SHAPE, TILE)
def test_spread_gives_every_weight_its_groups_value(shape: tuple[int, int, int], tile: tuple[int | None, ...]) -> None:
    from campfire_fx.sparsity.granularity import Granularity

    granularity = Granularity("any", tile)  # type: ignore[arg-type]
    weight = torch.rand(shape) + 1
    largest = granularity.split(weight).amax(-1)
    spread = granularity.spread(largest, shape)
    assert spread.shape == shape
    assert bool((spread >= weight).all())
    assert set(spread.flatten().tolist()) == set(largest.flatten().tolist())


def test_sizes_count_real_weights_at_the_edge() -> None:
    sizes = block(5).sizes(torch.randn(7, 12, 1)).squeeze(-1)
    assert sizes.tolist() == [[25, 25, 10], [10, 10, 4]]
    assert block(5).sizes(torch.randn(10, 5, 1)).tolist() == [[[25]]]


def test_scopes_pool_what_they_are_named_for() -> None:
    scores = torch.arange(4 * 6 * 9.0).reshape(4, 6, 9)
    assert WITHIN_LAYER.pools(scores).shape == (1, 216)
    assert torch.equal(WITHIN_KERNEL.pools(scores)[7], scores[1, 1])
    assert torch.equal(WITHIN_CHANNEL.pools(scores)[5], scores[:, 5].flatten())
    assert torch.equal(WITHIN_FILTER.pools(scores)[3], scores[3].flatten())
    assert torch.equal(runs(3).pools(scores)[0], scores[0, :3, 0])
    for scope in (WITHIN_LAYER, WITHIN_KERNEL, WITHIN_CHANNEL, WITHIN_FILTER, runs(3), runs(4)):
        pools = scope.pools(scores)
        whole = pools.isfinite().all(1)
        restored = scope.grid(pools, scores.shape)
        assert torch.equal(restored[restored.isfinite()], scores[restored.isfinite()]), scope
        assert bool(whole.all()) == (scope != runs(4)), scope


def test_a_pool_that_is_not_full_is_left_whole() -> None:
    pools = runs(4).pools(torch.zeros(1, 6, 1))
    assert pools.tolist() == [[0, 0, 0, 0], [torch.inf] * 4]
