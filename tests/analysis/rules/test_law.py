"""The law, for every row of the rule table: f(compact(x)) == compact(f(x)), of labels and of values.

f is the operation as a shrink leaves it: its parameters cut, its arguments rewritten. Rows that mix channels give
fresh labels, so theirs is the law of values alone, with the kernels that cross from dead to live set to zero.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from campfire_fx.analysis.compact import Vanished, compact_value, cut_like
from campfire_fx.analysis.labels import Labelled
from campfire_fx.analysis.rules import Kind, table
from campfire_fx.analysis.rules.kinds import GATES
from tests.analysis.rules.alone import Alone, Sample, alone
from tests.analysis.rules.cutting import Cut, choose, cut, decide, labels_again, run, zero_kernels
from tests.analysis.rules.samples import SAMPLES
from tests.analysis.rules.test_samples import name_of

EVERY = [
    pytest.param(target, sample, id=f"{name_of(target)}-{number}")
    for target, samples in SAMPLES.items()
    for number, sample in enumerate(samples)
]
every_sample = pytest.mark.parametrize(("target", "sample"), EVERY)
FRESH = (Kind.MIX, Kind.MATMUL, *GATES)


@every_sample
def test_channels_are_free_where_they_can_be(target: Hashable, sample: Sample) -> None:
    """And labels have the form of the result."""
    one = alone(target, sample)
    made = sample.free if sample.made is None else sample.made
    assert (one.free().numel(), one.made().numel()) == (sample.free, made)
    assert bool(one.labelling.structure.pins) or sample.free > 0 or not any(act.tells() for act in sample.acts())
    if sample.runs:
        assert _form(one.labels()) == _form(run(one.module, one.inputs))


def _form(value: Any) -> Any:
    if isinstance(value, (tuple, list)) and not isinstance(value, torch.Size):
        return [_form(v) for v in value]
    return tuple(value.shape) if isinstance(value, (Tensor, Labelled)) else value


@every_sample
def test_law(target: Hashable, sample: Sample) -> None:
    for bits, seed in ((0b1101, 0), (0, 1)):
        _check_law(target, sample, bits, seed)


@settings(max_examples=10 * settings().max_examples)
@given(st.sampled_from(EVERY), st.integers(0, 2**20 - 1), st.integers(0, 3))
def test_law_anywhere(which: Any, bits: int, seed: int) -> None:
    target, sample = which.values
    _check_law(target, sample, bits, seed)


def _check_law(target: Hashable, sample: Sample, bits: int, seed: int) -> None:
    one = alone(target, sample, seed=seed)
    zero_kernels(one, seed)
    done = _cut(one, sample, choose(one, bits))
    if done is None:
        return
    assert [t.shape for t in done.before] == [t.shape for t in done.after]
    if not sample.random:
        for before, after in zip(done.before, done.after, strict=True):
            torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-12, equal_nan=True)
    if table()[target].kind not in FRESH:
        _assert_labels_agree(one, done)


def _cut(one: Alone, sample: Sample, keep: Tensor) -> Cut | None:
    return cut(one, keep) if sample.runs else None


def _assert_labels_agree(one: Alone, done: Cut) -> None:
    if _has_one_channel(one, done):
        return
    structure = one.labelling.structure
    pins, known = list(structure.pins), len(structure.forest)
    expected = compact_value(one.labels(), done.live, even=True)
    got = labels_again(one, done.live, expected)
    assert structure.pins == pins, "what is left is pinned at the second run"
    assert torch.equal(structure.forest.roots()[:known], done.live.roots), "what is left is joined at the second run"
    _assert_equal(got, expected, known)


def _has_one_channel(one: Alone, done: Cut) -> bool:
    """Whether one channel, or group of a norm, is left somewhere: rules join or pin more there, never less."""
    if any(int(done.live.keeps(rows[:, 0]).sum()) == 1 for rows in one.labelling.structure.wholes.values()):
        return True
    for source in one.sources:
        labels = one.run.values[source].labels
        left = cut_like(labels, labels, done.live)
        if any(now == 1 < before for before, now in zip(labels.shape, left.shape, strict=True)):
            return True
    return False


def _assert_equal(got: Any, expected: Any, known: int) -> None:
    if isinstance(expected, Labelled):
        same = (got.labels == expected.labels) | (got.labels >= known)  # zeros padded onto channels are new each time
        assert got.shape == expected.shape and bool(same.all())
    elif isinstance(expected, (tuple, list)):
        for a, b in zip(got, expected, strict=True):
            _assert_equal(a, b, known)
    else:
        assert isinstance(expected, Vanished) or not isinstance(expected, Tensor) or got.shape == expected.shape


@every_sample
def test_channels_go_where_nothing_forbids_it(target: Hashable, sample: Sample) -> None:
    """The law would hold if every operation were stuck; so say which are."""
    one = alone(target, sample)
    zero_kernels(one, 0)
    everything = torch.cat([one.free(), one.made()]).unique()
    if not sample.runs or everything.numel() < 2:
        pytest.skip("nothing may go")
    assert any(_goes(one, everything, dropped) for dropped in _droppable(one, everything)) is not sample.stuck


def _goes(one: Alone, everything: Tensor, dropped: Tensor) -> bool:
    live = decide(one, everything[~torch.isin(everything, dropped)]).live
    return not live.alive[live.roots[dropped.long()]].all()


def _droppable(one: Alone, everything: Tensor) -> Iterator[Tensor]:
    """Yield each channel alone, the channels at one place of all activations, groups of a weight, and pairs."""
    yield from everything.view(-1, 1)
    forest = one.labelling.structure.forest
    labels = [forest.find(one.run.values[s].labels).unique() for s in one.sources]
    yield from (torch.stack(place) for place in zip(*labels, strict=False))
    for mixer in one.labelling.structure.mixers.values():
        groups = mixer.reads().shape[0]
        yield from torch.cat([forest.find(p).view(groups, -1) for p in (mixer.inputs, mixer.outputs)], 1)
    yield from torch.combinations(everything)
