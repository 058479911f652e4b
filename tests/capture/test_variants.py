"""Several examples: graphs for each way through the code, no more of them than there are ways, and who is refused."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from campfire_fx.base.errors import CaptureError
from campfire_fx.capture import is_refusal, trace
from campfire_fx.layers.dual import DualGraphModule
from tests.capture.checks import call, same
from tests.nets.options import Batched, Features, Images, Masked, Net

X = torch.randn(2, 3, 8, 8)


class Keywords(Net):
    def forward(self, x: Tensor, **options: Tensor) -> Tensor:
        y = self.features(x)
        return self.b(y * options["scale"]) if "scale" in options else self.c(y)


class TrainsTwoWays(Net):
    """Only in training do the two ways part."""

    def forward(self, x: Tensor, second: bool = False) -> Tensor:
        y = self.features(x)
        return self.c(y) if self.training and second else self.b(y)


FOR_TWO = [
    (Features, [X, {"x": X, "return_features": True}], []),
    (Masked, [X, (X, torch.rand(2, 1, 8, 8))], []),
    (Batched, [X, X[:1]], []),
    (Images, [([X, X],), ([X, X, X],)], [([X],), ([X, X, X, X],)]),
    (Keywords, [X, {"x": X, "scale": torch.full((1,), 2.0)}], [{"x": X, "bias": X}]),
]


def variants_of(model: nn.Module, examples: list[Any]) -> DualGraphModule:
    module = trace(model.eval(), examples=examples).module
    assert isinstance(module, DualGraphModule)
    return module.eval()


def refusal(module: nn.Module, example: Any) -> str:
    with pytest.raises(AssertionError) as caught:
        call(module, example)
    assert is_refusal(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("net", "examples", "others"), FOR_TWO, ids=lambda value: getattr(value, "__name__", ""))
def test_each_example_runs_its_way(net: type[Net], examples: list[Any], others: list[Any]) -> None:
    model = net().eval()
    module = variants_of(model, examples)
    assert len(module.graph_variants) == 2
    for twin in (module, copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        for example in (*examples, *reversed(examples)):
            assert same(call(twin, example), call(model, example))
        for example in others:
            refusal(twin, example)


@pytest.mark.parametrize(("net", "examples", "others"), FOR_TWO, ids=lambda value: getattr(value, "__name__", ""))
def test_one_example_refuses_the_other(net: type[Net], examples: list[Any], others: list[Any]) -> None:
    for example, other in (examples, reversed(examples)):
        module = variants_of(net(), [example])
        assert len(module.graph_variants) == 1
        with pytest.raises((AssertionError, TypeError)):
            call(module, other)


def test_parameters_are_shared_and_keep_their_names() -> None:
    model = Features()
    module = variants_of(model, [X, {"x": X, "return_features": True}])
    assert list(module.state_dict()) == list(model.state_dict())
    assert all(a is b for a, b in zip(module.parameters(), model.parameters(), strict=True))


def test_what_is_refused_hears_for_which_examples_the_model_is() -> None:
    module = variants_of(Features(), [X, {"x": X, "return_features": True}])
    assert refusal(module, {"x": X, "return_features": 2}) == (
        "Input at Features: it is like none of the examples that this model was traced with: "
        "example 1 (float32 2x3x8x8) asks for return_features=False; "
        "example 2 (x=float32 2x3x8x8, return_features=True) asks for return_features=True. "
        "Trace the model that it came from with an example like this input."
    )


def test_a_call_of_another_form_is_a_type_error() -> None:
    module = variants_of(Features(), [X, {"x": X, "return_features": True}])
    with pytest.raises(TypeError, match="unexpected keyword argument 'other'"):
        module(X, other=1)


def test_reports_know_the_variants() -> None:
    captured = trace(Batched(), examples=[X, X[:1]])
    assert [told for told, _ in captured.variants] == ["example 1 (float32 2x3x8x8)", "example 2 (float32 1x3x8x8)"]
    first, second = (guards for _, guards in captured.variants)
    assert first[0].startswith("x.shape[0] > 1 (") and second[0].startswith("x.shape[0] <= 1 (")
    assert captured.guards == (*first, *second)
    assert trace(Batched(), examples=[X]).variants == ()


class Options(Net):
    """Options that change nothing."""

    def forward(self, x: Tensor, mask: Any = None, flag: bool = False, mode: str = "a", number: int = 3) -> Tensor:
        if mode == "c":
            return self.b(self.features(x)) * 2
        return self.b(self.features(x))


def test_where_the_graph_is_the_same_there_is_one() -> None:
    others = [{"mask": X}, {"flag": True}, {"number": 4}, {"mode": "b"}, {}]
    model = Options().eval()
    module = variants_of(model, [X, *({"x": X, **other} for other in others)])
    assert len(module.graph_variants) == 1
    for kwargs in others:
        assert same(module(X, **kwargs), model(X, **kwargs))
    assert refusal(module, {"x": X, "mode": "d"}).startswith("Arguments at test_variants.py:")
    for unseen in ({"mode": "c"}, {"mode": "d"}, {"mask": X, "mode": "b"}):  # nobody has shown what they do
        refusal(module, {"x": X, **unseen})


def test_two_values_of_an_argument_are_asked_for_as_one() -> None:
    module = variants_of(Options(), [X, {"x": X, "mode": "b"}])
    assert refusal(module, {"x": X, "mode": "c"}).startswith("Argument mode at test_variants.py:")
    assert "traced with mode='a' or mode='b', and" in refusal(module, {"x": X, "mode": "c"})
    assert len(trace(Options(), examples=[X, {"x": X, "flag": True}]).guards) == 3  # none on the flag


def test_an_example_that_an_earlier_graph_takes_gives_none_of_its_own() -> None:
    captured = trace(Batched(), examples=[X, torch.randn(5, 3, 16, 24)])
    assert len(captured.islands[0].variants) == 1 and len(captured.islands[0].variants[0].examples) == 2
    assert len(captured.others) == 1


def test_ways_that_part_in_training_alone() -> None:
    model = TrainsTwoWays().train()
    module = trace(model, examples=[X, {"x": X, "second": True}]).module
    assert isinstance(module, DualGraphModule) and len(module.graph_variants) == 2
    for second in (False, True):
        assert same(module.train()(X, second=second), model.train()(X, second=second))
        assert same(module.eval()(X, second=second), model.eval()(X, second=second))


class Late(Net):
    """Decides by the size of something that takes a computation to know."""

    def forward(self, x: Tensor, step: int = 1) -> Tensor:
        y = self.features(x)
        windows = y.unfold(2, 3, 2)
        return self.b(y) if windows.shape[2] > 5 else self.c(y)


def test_conditions_on_what_is_computed_on_the_way() -> None:
    small, large = X, torch.randn(2, 3, 24, 24)
    model = Late()
    module = trace(model, examples=[large, small]).module
    assert isinstance(module, DualGraphModule) and len(module.graph_variants) == 2
    twin = copy.deepcopy(model)
    for x in (small, large, small):
        assert same(module.eval()(x), model.eval()(x))
        got, expected = module.train()(x), twin.train()(x)
        assert same(got, expected)
        assert torch.equal(module.norm.running_mean, twin.norm.running_mean)  # a refused graph has not counted
        assert module.norm.num_batches_tracked == twin.norm.num_batches_tracked


def test_captured_again_it_has_the_same_variants() -> None:
    examples = [X, {"x": X, "return_features": True}]
    first = variants_of(Features(), examples)
    again = variants_of(first, examples)
    assert len(again.graph_variants) == 2
    for example in examples:
        assert same(call(again, example), call(first, example))
    assert trace(again, examples=examples).guards == trace(Features(), examples=examples).guards
    assert len(variants_of(first, [examples[1]]).graph_variants) == 1


class Around(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x, return_features=True)[0] + 1


def test_a_model_around_one_with_variants_is_captured() -> None:
    inner = variants_of(Features(), [X, {"x": X, "return_features": True}])
    model = Around(inner).eval()
    captured = trace(model, X)
    assert captured.whole and same(captured.module.eval()(X), model(X))


class Stubborn(nn.Module):
    """A step in Python by data, around parts that have an option."""

    def __init__(self) -> None:
        super().__init__()
        self.part, self.end = Features(), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor, both: bool = False) -> Tensor:
        y = self.part(x, return_features=True)[0] if both else self.part(x)
        return self.end(y) if float(y.sum()) > -1e9 else y


def test_parts_of_a_model_have_variants_too() -> None:
    model = Stubborn().eval()
    examples = [X, {"x": X, "both": True}]
    captured = trace(model, examples=examples)
    part = next(island for island in captured.islands if island.path == "part")
    assert len(part.variants) == 2
    for example in examples:
        assert same(call(captured.module.eval(), example), call(model, example))
    assert "call 2 of part (" in str(captured.variants)


class Odd(nn.Module):
    """A part that no trace can follow."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if float(x.sum()) > -1e9 else x


class AroundOdd(Net):
    def __init__(self) -> None:
        super().__init__()
        self.odd = Odd()

    def forward(self, x: Tensor, twice: bool = False) -> Tensor:
        y = self.odd(self.features(x))
        return self.c(self.odd(y)) if twice else self.b(y)


def test_variants_around_opaque_parts() -> None:
    model = AroundOdd().eval()
    examples = [X, {"x": torch.randn(1, 3, 16, 16), "twice": True}]
    captured = trace(model, examples=examples)
    assert captured.whole and len(captured.islands[0].variants) == 2 and captured.islands[0].opaque == ("odd",)
    for example in examples:
        assert same(call(captured.module.eval(), example), call(model, example))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"examples": []}, "examples: the list is empty. Give at least one example input, or leave it out."),
        (
            {"examples": [X], "example_inputs": X},
            "examples: example_inputs is given, too. Put it into the list, and give examples alone.",
        ),
        (
            {"examples": (X, X)},
            (
                "examples: this is a tuple. Give a list of example inputs, each a tensor, a tuple of positional or a "
                "dict of keyword arguments."
            ),
        ),
        ({"examples": [X, None]}, "examples: number 2 is None. Give inputs that the model runs on."),
    ],
)
def test_what_is_no_list_of_examples(given: dict[str, Any], message: str) -> None:
    with pytest.raises(CaptureError) as caught:
        trace(Features(), **given)
    assert str(caught.value) == message


def test_an_example_that_the_model_does_not_run_on() -> None:
    with pytest.raises(
        CaptureError, match=r"^Example inputs at Features \(.+\): the model does not run on \(float32 2x"
    ):
        trace(Features(), examples=[X, torch.randn(2, 5, 8, 8)])
