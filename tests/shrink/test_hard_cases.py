"""Every small network, with its own zeros and with random ones: the same function, smaller where it must be."""

from __future__ import annotations

import pytest

from campfire_fx import shrink
from tests.assertions import (
    Snapshot,
    assert_not_larger,
    assert_same_function,
    assert_says_something,
    assert_shapes,
    assert_shares_no_memory,
    assert_smaller,
    assert_untouched,
    parameters,
    reproducible,
)
from tests.nets import CASES, Case
from tests.random_zeros import outputs_of

every_case = pytest.mark.parametrize("case", CASES.values(), ids=str)


@every_case
def test_the_case_itself_shows_something(case: Case) -> None:
    model = case.model()
    assert_says_something(model, case.example())
    missing = case.kept.keys() - model.state_dict().keys() - set(case.made)
    assert not missing, f"{missing} are no names of this network"
    assert case.kept or case.pins, "nothing is said of what must come out"


@every_case
@pytest.mark.parametrize("residual", ["union", "gate"])
def test_exact_and_smaller(case: Case, residual: str) -> None:
    model, inputs, other = case.model(), case.example(), case.another()
    snapshot = Snapshot.of(model)
    with reproducible(case.snippet(residual)):
        slim = shrink(model, inputs, residual=residual, verify=False)
        assert_untouched(model, snapshot)
        assert_same_function(model, slim, inputs, *([other] if other else []))
        assert_shares_no_memory(model, slim)
        if case.smaller:
            assert_smaller(model, slim)


@every_case
def test_as_small_as_derived_by_hand(case: Case) -> None:
    with reproducible(case.snippet("union")):
        slim = shrink(case.model(), case.example(), verify=False)
        assert_shapes(slim, case.kept)
        reasons = [pin.reason for pin in slim.plan.pins]
        for word in case.pins:
            assert any(word in reason for reason in reasons), f"no pin says {word!r}, only {reasons}"


@every_case
@pytest.mark.parametrize("seed", [1, 2])
def test_random_zeros(case: Case, seed: int) -> None:
    model, inputs, other = case.wild(seed), case.example(seed), case.another(seed + 1)
    with reproducible(case.snippet("union", seed, "wild")):
        slim = shrink(model, inputs, verify=False)
        assert_same_function(model, slim, inputs, *([other] if other else []))
        assert_not_larger(model, slim, allowance=outputs_of(model))


@every_case
def test_rounded_counts_are_exact_too(case: Case) -> None:
    model, inputs = case.wild(3), case.example()
    exact = parameters(shrink(model, inputs, verify=False))
    slim = shrink(model, inputs, round_to=4, verify=False)
    assert_same_function(model, slim, inputs)
    assert parameters(slim) >= exact, "rounding up made it smaller"
    for layer in slim.plan.layers:
        before, after = layer.outputs
        assert after % 4 == 0 or after == before, f"{layer.name} keeps {after} of {before} channels"


@every_case
def test_twice_is_once(case: Case) -> None:
    once = shrink(case.model(), case.example(), verify=False)
    twice = shrink(once, case.example(), verify=False)
    assert_same_function(once, twice, case.example())
    assert parameters(twice) == parameters(once), "a second shrink found more"


def test_gate_never_keeps_more_than_union() -> None:
    for case in CASES.values():
        union, gate = (
            parameters(shrink(case.model(), case.example(), residual=r, verify=False)) for r in ("union", "gate")
        )
        assert gate <= union, f"{case.name}: {gate} parameters with gate, {union} with union"
