"""Models with options, shrunk for several examples: exact for each, and refused outside of them."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from campfire_fx import dependency_graph, export, load, purify, shrink, sparsify
from campfire_fx.analysis.plan import ShrinkPlan
from campfire_fx.base.errors import CaptureError
from campfire_fx.capture import is_refusal
from campfire_fx.shrink.slim import SlimModel
from tests.capture.checks import call, same
from tests.nets.options import Batched, Features, Images, Masked, Net

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
MASK = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))


class Either(Net):
    def forward(self, x: Tensor, second: bool = False) -> Tensor:
        y = F.dropout(self.features(x), 0.1, self.training)
        return self.c(y) if second else self.b(y)


MODELS: list[tuple[type[Net], list[Any], list[Any]]] = [
    (Features, [X, {"x": X, "return_features": True}], [{"x": X, "return_features": None}]),
    (Either, [X, {"x": X, "second": True}], [{"x": X, "second": 1}]),
    (Masked, [X, (X, MASK)], []),
    (Batched, [X, X[:1]], []),
    (Images, [([X, X],), ([X, X, X],)], [([X],), ([X] * 4,)]),
]
MODEL = pytest.mark.parametrize(("net", "examples", "others"), MODELS, ids=[net.__name__ for net, *_ in MODELS])


def close(a: Any, b: Any) -> bool:
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(close, a, b))
    return a.shape == b.shape and float((a - b).detach().abs().max()) <= 1e-5 * float(a.detach().abs().max())


def assert_refused(model: nn.Module, example: Any) -> None:
    with pytest.raises(AssertionError) as caught:
        call(model, example)
    assert is_refusal(caught.value)


def kept(slim: SlimModel) -> list[int]:
    """Return how many channels each layer makes."""
    return [layer.outputs[1] for layer in slim.plan.layers]


@MODEL
def test_slim_is_the_model_for_every_example(net: type[Net], examples: list[Any], others: list[Any]) -> None:
    model = net().eval()
    slim = shrink(model, examples=examples)
    assert slim.verification is not None and len(slim.verification.runs) >= len(examples)
    assert kept(slim)[0] == 5  # what one example does without and another reads stays
    for twin in (slim, copy.deepcopy(slim), pickle.loads(pickle.dumps(slim))):
        for example in examples:
            assert close(call(model, example), call(twin.eval(), example))
        for example in others:
            assert_refused(twin, example)
    assert same(slim.example[0][0], examples[0][0] if isinstance(examples[0], tuple) else examples[0])
    assert len(slim.examples) == 2


@MODEL
def test_sparse_trains_and_shrinks_for_every_example(net: type[Net], examples: list[Any], others: list[Any]) -> None:
    sparse = sparsify(net(), "filter", sparsity=0.5, era=(0, 1), prune_stem=True, examples=examples)
    optimizer = torch.optim.SGD(sparse.parameters(), lr=0.05)
    sparse.attach(optimizer, steps_per_epoch=2)
    before = copy.deepcopy(sparse.state_dict())
    for example in examples * 2:
        output = call(sparse.train(), example)
        sum(part.square().mean() for part in (output if isinstance(output, tuple) else (output,))).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert not same(dict(before)["a.weight"], sparse.state_dict()["a.weight"])
    sparse.finalize()
    slim = pickle.loads(pickle.dumps(sparse)).shrink()
    assert kept(slim)[0] < 8 and len(slim.examples) == 2
    for example in examples:
        assert close(call(sparse.eval(), example), call(slim.eval(), example))
    for example in others:
        assert_refused(sparse, example)
        assert_refused(slim, example)


def test_a_channel_that_one_example_alone_reads_goes_where_that_is_not_given() -> None:
    model = Masked().eval()
    assert kept(shrink(model, X))[0] == kept(shrink(model, examples=[X]))[0] == 4
    assert kept(shrink(model, examples=[(X, MASK)]))[0] == 4
    assert kept(shrink(model, examples=[X, (X, MASK)]))[0] == 5


def test_where_the_examples_take_one_way_the_result_is_that_of_one() -> None:
    model = Batched().eval()
    several, one = shrink(model, examples=[X, torch.randn(3, 3, 16, 8)]), shrink(model, X)
    assert several.code == one.code and several.plan == one.plan
    assert several.verification is not None and one.verification is not None
    assert len(several.verification.runs) > len(one.verification.runs)  # the proof is done for each


def test_optimizer_goes_on_with_all_variants() -> None:
    sparse = sparsify(
        Either(), "filter", sparsity=0.5, era=(0, 1), prune_stem=True, examples=[X, {"x": X, "second": True}]
    )
    sparse.finalize()
    optimizer = torch.optim.Adam(sparse.parameters(), lr=1e-3)
    for example in (X, {"x": X, "second": True}):
        call(sparse, example).sum().backward()
    optimizer.step()
    slim = sparse.shrink(optimizer=optimizer)
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == {id(p) for p in slim.parameters()}
    for example in (X, {"x": X, "second": True}):
        assert close(call(sparse.eval(), example), call(slim.eval(), example))


def test_going_on_in_a_smaller_sparse_model() -> None:
    examples = [X, {"x": X, "second": True}]
    sparse = sparsify(Either(), "filter", sparsity=0.5, era=(0, 1), prune_stem=True, examples=examples)
    sparse.finalize()
    smaller = sparse.reconfigure()
    for example in examples:
        assert close(call(sparse.eval(), example), call(smaller.eval(), example))
    assert len(smaller.examples) == 2 and len(smaller.shrink().examples) == 2


@pytest.mark.parametrize("residual", ["union", "gate"])
@pytest.mark.parametrize("columns", [False, True])
def test_with_other_wishes(residual: str, columns: bool) -> None:
    model = Features().eval()
    examples = [X, {"x": X, "return_features": True}]
    wishes: dict[str, Any] = {"columns": columns, "groups": columns, "round_to": 2, "compensate": "always"}
    slim = shrink(model, examples=examples, residual=residual, **wishes)
    assert kept(slim)[0] == 6
    for example in examples:
        assert close(call(model, example), call(slim.eval(), example))


class Constant(Net):
    """With the option, a branch is constant; it is read by a layer that both ways share."""

    def forward(self, x: Tensor, gray: bool = False) -> Tensor:
        y = self.features(x)
        return self.b(torch.ones_like(y) if gray else y)


def test_what_is_constant_for_one_example_is_folded_for_none() -> None:
    model = Constant().eval()
    slim = shrink(model, examples=[X, {"x": X, "gray": True}])
    for example in (X, {"x": X, "gray": True}):
        assert close(call(model, example), call(slim.eval(), example))


def test_reports_and_plan_tell_of_the_variants() -> None:
    slim = shrink(Batched().eval(), examples=[X, X[:1]])
    (first, asked), (second, other) = slim.plan.variants
    assert (first, second) == ("example 1 (float32 2x3x8x8)", "example 2 (float32 1x3x8x8)")
    assert asked[0].startswith("x.shape[0] > 1") and other[0].startswith("x.shape[0] <= 1")
    assert slim.plan.guards == (*asked, *other)
    assert ShrinkPlan.from_json(slim.plan.to_json()) == slim.plan
    text = " ".join(str(slim.report()).split())
    assert "There are 2 variants, one for each way that the examples take" in text
    assert f"For example 2 (float32 1x3x8x8): {other[0]}." in text


@pytest.mark.parametrize("suffix", [".pt2", ".onnx", ".safetensors", ".pt"])
def test_export_writes_one_graph_and_says_which_it_leaves_out(tmp_path: Path, suffix: str) -> None:
    slim = shrink(Masked().eval(), examples=[X, (X, MASK)]).eval()
    first = export(slim, tmp_path / f"first{suffix}")
    assert first.left_out == ("example 2 (float32 2x3x8x8, float32 2x1x8x8)",)
    assert close(slim(X), torch.as_tensor(load(first.path)(X)))
    second = export(slim, tmp_path / f"second{suffix}", (X, MASK))
    assert second.left_out == ("example 1 (float32 2x3x8x8)",)
    assert close(slim(X, MASK), torch.as_tensor(load(second.path)(X, MASK)))


def test_export_of_a_sparse_model(tmp_path: Path) -> None:
    sparse = sparsify(Masked(), "filter", sparsity=0.5, era=(0, 1), prune_stem=True, examples=[X, (X, MASK)])
    sparse.finalize()
    record = export(sparse, tmp_path / "sparse.pt", (X, MASK))
    assert record.left_out == ("example 1 (float32 2x3x8x8)",)
    assert close(sparse.eval()(X, MASK), load(record.path)(X, MASK))


def test_dependencies_and_purification_see_all_ways() -> None:
    examples = [X, (X, MASK)]
    graph = dependency_graph(Masked(), examples=examples)
    assert {"a", "b", "c"} <= set(graph) and "b" not in dependency_graph(Masked(), (X, MASK))
    sparse = sparsify(Masked(), "filter", sparsity=0.5, era=(0, 1), prune_stem=True, examples=examples)
    assert set(sparse.dependency_graph) == set(graph)
    sparse.finalize()
    assert {layer.name for layer in purify(sparse, column=0.01).layers} == {"a", "b", "c"}


def test_what_the_example_decided_is_still_asked_when_a_sparse_model_is_shrunk() -> None:
    sparse = sparsify(Batched(), "filter", sparsity=0.5, era=(0, 1), example_inputs=X)
    sparse.finalize()
    slim = sparse.shrink()
    assert [guard.partition(" (")[0] for guard in slim.plan.guards] == ["x.shape[0] > 1"]
    assert "options.py" in slim.plan.guards[0]
    assert_refused(slim, X[:1])


def test_no_example_runs() -> None:
    for function in (shrink, sparsify, dependency_graph):
        with pytest.raises(CaptureError, match=r"examples: the list is empty\."):
            function(Features(), examples=[])
