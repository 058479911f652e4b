"""Random networks with random zeros: a shrink gives the same function, in float64, and never a larger model."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from campfire_fx import shrink
from tests.assertions import (
    Snapshot,
    assert_not_larger,
    assert_same_output,
    assert_untouched,
    outputs,
    parameters,
    reproducible,
)
from tests.random_nets import OPERATIONS, RandomNet, RandomPair
from tests.random_zeros import outputs_of, random_zeros, randomise

numbers = st.integers(0, 23)
programs = st.lists(st.tuples(st.sampled_from(sorted(OPERATIONS)), numbers, numbers, numbers), min_size=1, max_size=12)


def make(steps: list[tuple[str, int, int, int]], inputs: int, seed: int) -> RandomNet:
    """Return a random network with random statistics and zeros; it begins with a convolution for each input."""
    torch.manual_seed(seed)
    first = [("conv", i, 1, 6 + i) for i in range(inputs)]
    net = (RandomNet([*first, *steps]) if inputs == 1 else RandomPair([*first, *steps])).double()
    return random_zeros(randomise(net, seed), seed, linears=True)


def runs(net: nn.Module, inputs: tuple[torch.Tensor, ...]) -> bool:
    """Whether a network itself can be run on inputs: tensors of one size at the example may differ at another."""
    try:
        outputs(net, inputs)
    except RuntimeError:
        return False
    return True


def snippet(net: nn.Module, seed: int, residual: str) -> str:
    """Return code that shows the same again."""
    return (
        "from campfire_fx import shrink\nfrom tests.random_nets import RandomNet, RandomPair\n"
        f"from tests.random_zeros import random_zeros, randomise\nimport torch\ntorch.manual_seed({seed})\n"
        f"net = random_zeros(randomise({net!r}.double(), {seed}), {seed}, linears=True)\n"
        f"print(shrink(net, net.example(), residual={residual!r}).plan)"
    )


@given(programs, st.integers(1, 2), st.integers(0, 9999), st.sampled_from(["union", "gate"]))
def test_random_networks_keep_their_function(
    steps: list[tuple[str, int, int, int]], inputs: int, seed: int, residual: str
) -> None:
    net = make(steps, inputs, seed)
    snapshot = Snapshot.of(net)
    with reproducible(snippet(net, seed, residual)):
        slim = shrink(net, net.example(), residual=residual, verify=False)
        assert_same_output(net, slim, net.example())
        other = net.example(batch=3, size=16, seed=1)
        if runs(net, other):
            assert_same_output(net, slim, other)
        assert_untouched(net, snapshot)
        assert_not_larger(net, slim, allowance=outputs_of(net))


@settings(max_examples=10)
@given(programs, st.integers(0, 9999), st.sampled_from([2, 4]))
def test_rounding_keeps_the_function(steps: list[tuple[str, int, int, int]], seed: int, multiple: int) -> None:
    net = make(steps, 1, seed)
    with reproducible(snippet(net, seed, "union")):
        slim = shrink(net, net.example(), round_to=multiple, verify=False)
        assert_same_output(net, slim, net.example(batch=1, seed=2))
        assert parameters(slim) >= parameters(shrink(net, net.example(), verify=False))


@settings(max_examples=10)
@given(programs, st.integers(0, 9999))
def test_a_second_shrink_finds_nothing_more(steps: list[tuple[str, int, int, int]], seed: int) -> None:
    net = make(steps, 1, seed)
    with reproducible(snippet(net, seed, "union")):
        once = shrink(net, net.example(), verify=False)
        twice = shrink(once, net.example(), verify=False)
        assert_same_output(once, twice, net.example())
        assert parameters(twice) == parameters(once)
