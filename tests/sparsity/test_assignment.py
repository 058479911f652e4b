"""Assignment: switches, overrides, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from campfire_fx.base.errors import RegimeError
from campfire_fx.sparsity import Polynomial, regime_named
from campfire_fx.sparsity.assignment import Assignment, PrunableLayer, Request, as_regime, assign, check_era

LAYERS = (
    PrunableLayer("conv1", "Conv2d", kernel=49, linear=False, stem=True),
    PrunableLayer("layer1.conv1", "Conv2d", kernel=9, linear=False, stem=False),
    PrunableLayer("layer1.down", "Conv2d", kernel=1, linear=False, stem=False),
    PrunableLayer("fc", "Linear", kernel=1, linear=True, stem=False),
)


def wishes(**changes: Any) -> Request:
    return Request(**{"regime": regime_named("combined"), "sparsity": 0.7, "era": (3, 9)} | changes)


def assigned(**changes: Any) -> dict[str, Assignment]:
    return {a.name: a for a in assign(LAYERS, wishes(**changes))}


def dense(**changes: Any) -> dict[str, str]:
    return {name: a.reason for name, a in assigned(**changes).items() if a.rule is None}


def test_by_default_all_but_the_stem_is_pruned() -> None:
    layers = assigned()
    assert dense() == {"conv1": "it reads the model's input (prune_stem is off)"}
    combined = regime_named("combined")
    assert [layers[name].rule for name in ("layer1.conv1", "layer1.down", "fc")] == [
        combined.spatial,
        combined.pointwise,
        combined.linear,
    ]
    assert all(a.sparsity == 0.7 and a.schedule == Polynomial(3, 9) for a in layers.values() if a.rule)


@pytest.mark.parametrize(
    ("switch", "left"),
    [
        ({"prune_stem": True}, set()),
        ({"prune_1x1": False}, {"conv1", "layer1.down"}),
        ({"prune_fc": False}, {"conv1", "fc"}),
    ],
)
def test_switches(switch: dict[str, bool], left: set[str]) -> None:
    assert set(dense(**switch)) == left


def test_what_is_frozen_stays_dense_whatever_else_is_asked() -> None:
    assert dense(frozen=("layer1",), overrides={"layer1.*": 0.5}, prune_stem=True) == {
        "layer1.conv1": "it is frozen",
        "layer1.down": "it is frozen",
    }
    coupled = assigned(frozen=("conv1", "*.down"), regime=regime_named("channel"))
    assert {name: (a.at_least, a.reason) for name, a in coupled.items()} == {
        "conv1": (1.0, "its channels stay: it is frozen"),
        "layer1.conv1": (None, ""),
        "layer1.down": (1.0, "its channels stay: it is frozen"),
        "fc": (None, ""),
    }


def test_regimes_without_a_rule_say_so() -> None:
    reasons = dense(regime=regime_named("fine-fc"))
    assert reasons["layer1.conv1"] == "regime 'fine-fc' leaves convolutions dense"
    assert reasons["layer1.down"] == "regime 'fine-fc' leaves 1x1 convolutions dense"


def test_overrides_match_patterns_and_the_last_one_wins() -> None:
    layers = assigned(overrides={"layer1.*": 0.5, "*.down": 0.25})
    assert [layers[name].sparsity for name in ("layer1.conv1", "layer1.down", "fc")] == [0.5, 0.25, 0.7]


def test_an_override_can_change_regime_era_and_exponent() -> None:
    layer = assigned(overrides={"*.conv1": {"regime": "2:4", "era": (0, 2), "exponent": 1.0}})["layer1.conv1"]
    assert layer.rule == regime_named("2:4").spatial
    assert layer.sparsity == 0.5  # N:M fixes it
    assert layer.schedule == Polynomial(0, 2, 1.0)


def test_sparsity_zero_leaves_a_layer_dense() -> None:
    assert dense(overrides={"fc": 0})["fc"] == "sparsity 0 was asked for"


def test_a_layer_named_in_full_is_pruned_whatever_the_switches_say() -> None:
    layers = assigned(prune_fc=False, overrides={"conv1": 0.2, "f*": 0.3})
    assert layers["conv1"].rule is not None and layers["conv1"].sparsity == 0.2
    assert layers["fc"].rule is None  # a pattern is not a name


@pytest.mark.parametrize("value", [1, 1.0, -0.1, 70, float("nan"), "0.7", None, True])
def test_a_sparsity_outside_the_range_names_layer_value_and_remedy(value: Any) -> None:
    with pytest.raises(RegimeError, match=r"sparsity at overrides 'fc': .* is outside \[0, 1\). Give the fraction"):
        assign(LAYERS, wishes(overrides={"fc": {"sparsity": value}}))


def test_a_pattern_that_matches_nothing_names_the_nearest() -> None:
    with pytest.raises(
        RegimeError, match=r"overrides 'layer1.conv2': no layer has such a path. Did you mean 'layer1.conv1'"
    ):
        assign(LAYERS, wishes(overrides={"layer1.conv2": 0.5}))


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(
        RegimeError, match=r"overrides 'fc': 'sparse' is no setting of a layer. Did you mean 'sparsity'\? The settings"
    ):
        assign(LAYERS, wishes(overrides={"fc": {"sparse": 0.5}}))


def test_the_sparsity_that_a_regime_fixes_is_kept() -> None:
    layers = assigned(overrides={"*": {"regime": "2:4", "sparsity": 0.7}, "fc": 0})
    assert (layers["layer1.conv1"].sparsity, layers["fc"].sparsity, layers["fc"].rule) == (0.5, 0.0, None)


def test_an_override_with_a_backward_era_is_refused() -> None:
    with pytest.raises(RegimeError, match=r"overrides at fc: era: \(9, 3\) is not a span"):
        assign(LAYERS, wishes(overrides={"fc": {"era": (9, 3)}}))


def test_an_override_with_an_unknown_regime_names_the_layer() -> None:
    with pytest.raises(RegimeError, match=r"overrides at fc: unknown regime 'combine'.* mean 'combined'"):
        assign(LAYERS, wishes(overrides={"fc": {"regime": "combine"}}))


@pytest.mark.parametrize("era", [3, (1, 2, 3), (0.5, 2), None, "ab"])
def test_an_era_that_is_no_pair_of_epochs_is_refused(era: Any) -> None:
    with pytest.raises(RegimeError, match=r"is not a pair of epochs. Give"):
        check_era(era, "sparsify")


def test_a_regime_is_a_name_or_a_composition() -> None:
    assert as_regime(regime_named("ck")) is not None
    with pytest.raises(RegimeError, match="regime: 7 is neither a name nor a Regime"):
        as_regime(7)
