"""Random networks lose channels to a target: what shrinks is exact, costs what was predicted, and meets the target."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from campfire_fx import shrink
from campfire_fx.base.errors import RegimeError
from campfire_fx.cost.measure import macs
from campfire_fx.training.model import SparseModel
from campfire_fx.training.sparsify import sparsify
from tests.assertions import Snapshot, assert_same_output, assert_untouched, parameters, reproducible
from tests.random_nets import OPERATIONS, RandomNet
from tests.random_zeros import randomise

numbers = st.integers(0, 23)
steps_of_any_kind = st.tuples(st.sampled_from(sorted(OPERATIONS)), numbers, numbers, numbers)
group_norms = st.tuples(st.just("norm"), numbers, st.sampled_from([5, 6, 13, 14, 21, 22]), numbers)
programs = st.lists(st.one_of(steps_of_any_kind, steps_of_any_kind, group_norms), min_size=1, max_size=10)


def make(steps: list[tuple[str, int, int, int]], seed: int) -> RandomNet:
    """Return a random network without zeros that begins with a convolution."""
    torch.manual_seed(seed)
    net = RandomNet([("conv", 0, 1, 6), *steps]).double()
    randomise(net, seed)
    return net


def snippet(net: RandomNet, seed: int, key: str, part: float) -> str:
    return (
        "from campfire_fx import sparsify\nfrom tests.random_nets import RandomNet\n"
        f"from tests.random_zeros import randomise\nimport torch\ntorch.manual_seed({seed})\n"
        f"net = randomise({net!r}.double(), {seed})\n"
        f"print(sparsify(net, 'channel', target={{{key!r}: {part}}}, example_inputs=net.example()).finalize().shrink())"
    )


def pruned(net: RandomNet, key: str, part: float) -> SparseModel | None:
    """Return the network at its target; None where it says that the target cannot be met."""
    try:
        return sparsify(net, "channel", target={key: part}, example_inputs=net.example()).finalize()
    except RegimeError as error:
        if not any(words in str(error) for words in ("cannot be met; the least is", "none of this model can go")):
            raise
        return None


@settings(max_examples=20)
@given(programs, st.integers(0, 9999), st.sampled_from(["macs", "parameters"]), st.sampled_from([0.8, 0.5]))
def test_what_shrinks_is_exact_and_costs_what_was_predicted(
    steps: list[tuple[str, int, int, int]], seed: int, key: str, part: float
) -> None:
    net = make(steps, seed)
    example, snapshot = net.example(), Snapshot.of(net)
    dense = {"macs": float(macs(net, example).total), "parameters": float(parameters(net))}
    with reproducible(snippet(net, seed, key, part)):
        sparse = pruned(net, key, part)
        assert_untouched(net, snapshot)
        if sparse is None:
            return
        slim = sparse.shrink()
        assert_same_output(sparse, slim, example)
        now = {cost.name: cost.now * dense[cost.name] for cost in sparse.sparsity().costs if cost.name in dense}
        left = {"macs": float(macs(slim, example).total), "parameters": float(parameters(slim))}
        assert left[key] <= part * dense[key] * (1 + 1e-9)
        assert all(left[name] <= now[name] * (1 + 1e-9) for name in dense)
        if parameters(shrink(net, example, verify=False)) == dense["parameters"]:  # nothing in it was dead before
            assert left == pytest.approx(now, rel=1e-9)
