"""Every regime: monotone, computed once per threshold, exact; and what each promises."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from campfire_fx.base.errors import RegimeError
from campfire_fx.sparsity import REGIMES, WITHIN_CHANNEL, Goal, Polynomial, Regime, Rule, regime_named
from campfire_fx.sparsity.regimes.campfire import block_fc, ck, combined, inter_epoch, window
from campfire_fx.sparsity.regimes.magnitude import n_of_m
from campfire_fx.sparsity.selection import nearest

SHAPES = {"spatial": (8, 6, 9), "pointwise": (12, 10, 1), "linear": (13, 12, 1)}
RULES = [
    pytest.param(rule, SHAPES[kind], id=f"{name}-{kind}")
    for name in [*REGIMES, "2:4", "1:8"]
    for kind in SHAPES
    if (rule := getattr(regime_named(name), kind)) is not None
]
RULES += [
    pytest.param(window(2).spatial, SHAPES["spatial"], id="window-cap"),
    pytest.param(combined(cap=3).spatial, SHAPES["spatial"], id="combined-cap"),
    pytest.param(combined(scope=WITHIN_CHANNEL).spatial, SHAPES["spatial"], id="combined-channel"),
    pytest.param(ck(WITHIN_CHANNEL).spatial, SHAPES["spatial"], id="ck-channel"),
    pytest.param(combined().spatial, (4, 1, 9), id="combined-depthwise"),
    pytest.param(combined().spatial, (5, 4, 3), id="combined-1d"),
    pytest.param(combined().spatial, (1, 1, 2), id="combined-one-kernel"),
]


def ones(shape: tuple[int, ...]) -> Tensor:
    return torch.ones(shape, dtype=torch.bool)


def apply(rule: Rule | None, weight: Tensor, sparsity: float, final: float | None = None) -> Tensor:
    assert rule is not None
    return rule(weight, ones(weight.shape), Goal(sparsity, sparsity if final is None else final))


def true_sparsity(mask: Tensor) -> float:
    return 1 - mask.double().mean().item()


@pytest.mark.parametrize(("rule", "shape"), RULES)
@given(seed=st.integers(0, 2**31), final=st.floats(0.05, 0.98), length=st.integers(1, 9), ties=st.booleans())
@settings(max_examples=12)
def test_masks_move_only_with_the_threshold_and_zeros_stay(
    rule: Rule, shape: tuple[int, int, int], seed: int, final: float, length: int, ties: bool
) -> None:
    """The paper re-evaluates masks after every step; within an epoch that changes nothing."""
    generator = torch.Generator().manual_seed(seed)

    def noise() -> Tensor:
        drawn = torch.randn(shape, generator=generator)
        return drawn.round() if ties else drawn

    weight, mask = noise(), ones(shape)
    schedule = Polynomial(0, length)
    for epoch in range(length + 1):
        goal = Goal(final * schedule.fraction(epoch), final)
        moved = mask & rule(weight, mask, goal)
        assert bool(moved.any()), "a layer was lost"
        for _ in range(2):  # training goes on: live weights move, some of them to zero; dead ones are zero
            weight = torch.where(moved, weight + noise(), 0.0)
            assert torch.equal(moved & rule(weight, moved, goal), moved)
        mask = moved


@pytest.mark.parametrize("name", ["combined", "inter-epoch", "ck", "unstructured"])
@pytest.mark.parametrize("final", [0.3, 0.6, 0.7, 0.8, 0.9])
def test_a_layer_meets_its_target_in_every_epoch(name: str, final: float) -> None:
    rule = regime_named(name).spatial
    assert rule is not None
    weight, mask = torch.randn(32, 24, 9), ones((32, 24, 9))
    schedule = Polynomial(0, 20)
    for epoch in range(21):
        due = final * schedule.fraction(epoch)
        mask = mask & rule(weight, mask, Goal(due, final))
        weight = torch.where(mask, weight + 0.1 * torch.randn_like(weight), 0.0)
        assert true_sparsity(mask) == pytest.approx(due, abs=1 / (32 * 24))  # within one kernel


@pytest.mark.parametrize("sparsity", [0.4, 0.6, 0.7, 0.8])
def test_combined_closes_windows_first_and_kernels_for_the_rest(sparsity: float) -> None:
    mask = apply(combined().spatial, torch.randn(64, 64, 9), sparsity)
    live = mask.any(-1)
    zeros = (~mask).sum(-1)[live]
    at_least = int(9 * 0.8 * sparsity)
    assert int(zeros.min()) >= at_least and int(zeros.max()) <= at_least + 1
    share = zeros.double().mean().item() / 9
    assert 1 - live.double().mean().item() == pytest.approx(1 - (1 - sparsity) / (1 - share), abs=1e-3)
    assert share == pytest.approx(0.8 * sparsity, abs=0.04)


def test_combined_keeps_the_largest_of_a_kernel_and_the_kernels_with_the_largest() -> None:
    weight = torch.randn(32, 32, 9)
    mask = apply(combined().spatial, weight, 0.7)
    magnitudes, live = weight.abs(), mask.any(-1)
    kept = torch.where(mask, magnitudes, torch.inf).amin(-1)
    dropped = torch.where(mask, 0.0, magnitudes).amax(-1)
    assert bool((kept > dropped)[live].all())
    assert magnitudes.amax(-1)[live].min() > magnitudes.amax(-1)[~live].max()


def test_combined_by_channel_kills_as_many_kernels_of_every_input() -> None:
    mask = apply(combined(scope=WITHIN_CHANNEL).spatial, torch.randn(40, 8, 9), 0.7)
    alive = mask.any(-1).sum(0)
    assert int(alive.max() - alive.min()) <= 1
    assert true_sparsity(mask) == pytest.approx(0.7, abs=1 / 40)


def test_window_zeros_per_kernel() -> None:
    counts = [
        int((~apply(window().spatial, torch.randn(4, 4, 9), s)).sum(-1).unique()) for s in (0.2, 0.4, 0.6, 0.7, 0.8)
    ]
    assert counts == [2, 4, 6, 7, 8]
    assert bool(apply(window().spatial, torch.randn(4, 4, 9), 0.0).all())
    assert (~apply(window().spatial, torch.randn(4, 4, 9), 0.99)).sum(-1).unique().tolist() == [8]  # one stays


def test_window_with_a_cap_of_two_reproduces_the_papers_true_sparsities() -> None:
    """ResNet-50 v1 on Tiny-ImageNet, 1x1 and FC pruned at s, 0.9 % natural zeros taken off (methods, A5)."""
    spatial, pointwise_and_fc, total = 11_317_248, 12_128_256 + 409_600, 23_864_512
    whole = []
    for s in (0.2, 0.4, 0.6, 0.8):
        zeros = int((~apply(window(2).spatial, torch.randn(2, 2, 9), s)).sum(-1).unique())
        whole.append(round((spatial * zeros / 9 + pointwise_and_fc * s) / total, 3))
    assert whole == [0.474, 0.579, 0.684, 0.842]


def test_ck_ranks_kernels_by_their_largest_weight() -> None:
    weight = torch.full((2, 2, 9), 0.5)
    weight[0, 1, 4], weight[1, 0, 8] = -2.0, 1.0  # large by one weight
    weight[1, 1] = 0.9  # larger by sum
    kept = apply(ck().spatial, weight, 0.5).all(-1)
    assert kept.tolist() == [[False, True], [True, False]]


def test_ck_is_unstructured_where_a_kernel_is_one_weight() -> None:
    weight = torch.randn(10, 12, 1)
    assert torch.equal(apply(ck().pointwise, weight, 0.7), apply(regime_named("unstructured").pointwise, weight, 0.7))


def test_inter_epoch_prunes_kernels_before_windows() -> None:
    rule = regime_named("inter-epoch").spatial
    first = apply(rule, torch.randn(32, 32, 9), 0.2, final=0.7)
    assert int((~first).sum(-1)[first.any(-1)].max()) == 0, "the first phase removes whole kernels only"
    last = apply(rule, torch.randn(32, 32, 9), 0.7, final=0.7)
    assert true_sparsity(last.any(-1)) == pytest.approx(1 - 0.3 / 0.44, abs=1e-3)
    assert true_sparsity(last) == pytest.approx(0.7, abs=1e-3)


def test_block_fc_removes_whole_blocks_and_spares_the_edge_no_less() -> None:
    weight = torch.ones(10, 12, 1)
    weight[:5, :5] = 0.1  # the weakest whole block; the blocks of 5x2 at the edge have smaller sums
    weight[5:, :5] = 0.2
    mask = apply(block_fc().linear, weight, 1 / 3).squeeze(-1)
    expected = ones((10, 12))
    expected[:, :5] = False
    assert torch.equal(mask, expected)


def test_block_fc_keeps_a_block_for_every_output() -> None:
    mask = apply(block_fc().linear, torch.randn(23, 17, 1) * torch.logspace(-4, 0, 23).reshape(-1, 1, 1), 0.95)
    assert bool(mask.squeeze(-1).any(1).all())


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (2, 8)])
def test_n_of_m_keeps_the_n_largest_of_every_run(n: int, m: int) -> None:
    weight = torch.randn(6, 2 * m + 1, 9)
    regime = n_of_m(n, m)
    assert regime.sparsity == 1 - n / m
    mask = apply(regime.spatial, weight, 1 - n / m)
    runs = mask[:, : 2 * m].reshape(6, 2, m, 9)
    assert bool((runs.sum(2) == n).all())
    assert bool(mask[:, 2 * m :].all()), "a run that is not full stays whole"
    magnitudes = weight[:, : 2 * m].reshape(6, 2, m, 9).abs()
    assert torch.where(runs, magnitudes, torch.inf).amin(2).gt(torch.where(runs, 0.0, magnitudes).amax(2)).all()


def test_filters_die_whole_by_their_norm() -> None:
    weight = torch.randn(10, 4, 9) * torch.arange(1, 11).reshape(10, 1, 1)
    mask = apply(regime_named("filter").spatial, weight, 0.5)
    dead = (~mask.flatten(1).any(1)).nonzero().flatten().tolist()
    assert dead == sorted(weight.flatten(1).norm(dim=1).argsort()[:5].tolist())
    assert bool(mask[[k for k in range(10) if k not in dead]].all())


def test_fully_connected_rules_keep_every_output() -> None:
    mask = apply(regime_named("fine-fc").linear, torch.randn(50, 40, 1), 0.95).squeeze(-1)
    assert bool(mask.any(1).all())
    assert int((~mask).sum()) == nearest(50 * 40, 0.95)


def test_fc_regimes_leave_convolutions_dense() -> None:
    for name in ("fine-fc", "block-fc"):
        regime = regime_named(name)
        assert regime.spatial is None and regime.pointwise is None and regime.linear is not None


def test_masks_are_the_same_in_half_the_precision_of_a_shifted_sign() -> None:
    weight = torch.randn(16, 16, 9)
    for name in ("combined", "window", "ck", "2:4"):
        rule = regime_named(name).spatial
        assert torch.equal(apply(rule, weight, 0.5), apply(rule, -2 * weight.double(), 0.5)), name


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("combind", "combined"),
        ("CK", "ck"),
        ("windows", "window"),
        ("magnitude", "unstructured"),
        ("block_fc", "block-fc"),
    ],
)
def test_an_unknown_regime_names_the_nearest(name: str, near: str) -> None:
    with pytest.raises(RegimeError, match=f"unknown regime '{name}'. Did you mean '{near}'"):
        regime_named(name)


def test_settings_that_leave_nothing_are_refused() -> None:
    with pytest.raises(RegimeError, match="a cap of 0 non-zeros leaves nothing"):
        window(0)
    with pytest.raises(RegimeError, match="a cap of 0 non-zeros leaves nothing"):
        combined(cap=0)
    with pytest.raises(RegimeError, match=r"a window fraction of 1.5 is outside"):
        combined(1.5)
    with pytest.raises(RegimeError, match=r"regime 'inter-epoch': a window fraction of -0.1 is outside"):
        inter_epoch(-0.1)
    with pytest.raises(RegimeError, match="regime 'block-fc': blocks of 0 hold no weight"):
        block_fc(0)
    with pytest.raises(RegimeError, match="regime '4:4': 4 of 4 is not a part"):
        regime_named("4:4")


@pytest.mark.parametrize("name", ["ck", "combined"])
def test_kernels_are_ranked_in_the_layer_or_in_each_channel(name: str) -> None:
    by_channel = regime_named(name, ck_scope="channel")
    assert by_channel.spatial == {"ck": ck, "combined": combined}[name](scope=WITHIN_CHANNEL).spatial
    assert regime_named(name, ck_scope="layer") == regime_named(name)
    weight = torch.randn(12, 5, 1) * torch.logspace(-3, 0, 5).reshape(1, 5, 1)  # weak inputs and strong ones
    assert apply(by_channel.pointwise, weight, 0.5).sum(0).flatten().tolist() == [6] * 5
    assert apply(regime_named(name).pointwise, weight, 0.5).sum(0).unique().numel() > 1


def test_settings_reach_the_regime_by_name_and_no_other_takes_them() -> None:
    assert regime_named("window", window_cap=2) == window(2)
    assert regime_named("combined", window_cap=3, ck_scope="channel") == combined(cap=3, scope=WITHIN_CHANNEL)
    with pytest.raises(RegimeError, match="ck_scope: regime 'window' takes none. Use it with 'ck' or 'combined' by"):
        regime_named("window", ck_scope="channel")
    with pytest.raises(RegimeError, match="window_cap: regime '2:4' takes none. Use it with 'window' or 'combined'"):
        regime_named("2:4", window_cap=2)
    with pytest.raises(RegimeError, match="ck_scope: 'row' is not known. Use 'layer' or 'channel'"):
        regime_named("ck", ck_scope="row")


def test_a_regime_of_ones_own_is_a_composition() -> None:
    from campfire_fx.sparsity import COLUMN, WITHIN_LAYER, Cut, l2

    columns = Cut(COLUMN, l2, WITHIN_LAYER)
    regime = Regime("column", spatial=columns, pointwise=columns, linear=None)
    mask = apply(regime.spatial, torch.randn(8, 6, 9), 0.5)
    assert int((~mask.any(0)).sum()) == 27
