"""The public shrink: what it leaves alone, what it gives back, what it refuses."""

from __future__ import annotations

import copy
import gc
import pickle
import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import fx, nn
from torch.nn.utils import prune

import campfire_fx.passes.shrink_channels as cutting
from campfire_fx import ShrinkError, shrink, sparsify
from campfire_fx.analysis.plan import ShrinkPlan
from tests.assertions import (
    Snapshot,
    assert_same_output,
    assert_shapes,
    assert_smaller,
    assert_untouched,
    difference,
    outputs,
)
from tests.nets import CASES
from tests.nets.case import block, conv, named
from tests.random_zeros import random_zeros, randomise, zero_filters

X = torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
SHAPES = {"a.0.weight": (6, 3, 3, 3), "b.weight": (5, 6, 1, 1)}


def net() -> Any:
    """Two of eight channels are constants that fold into a bias."""
    model: Any = randomise(named(a=block(3, 8), b=conv(8, 5, 1)).double(), 0, positive=True)
    zero_filters(model.a[0], (0, 1))
    return model


class TestTheModelGiven:
    """Whatever state it is in, it is in that state afterwards, to the bit."""

    def test_keeps_its_modes_hooks_gradients_and_frozen_parameters(self) -> None:
        model = net()
        model(X).sum().backward()
        model.a.eval()
        model.b.weight.requires_grad_(requires_grad=False)
        model.a[1].register_buffer("extra", torch.ones(3), persistent=False)
        model.register_forward_pre_hook(lambda *_: None)
        snapshot = Snapshot.of(model)
        shrink(model, X)
        assert_untouched(model, snapshot)

    def test_statistics_do_not_move_though_it_is_in_training_mode(self) -> None:
        model = net().train()
        before = copy.deepcopy(model.state_dict())
        slim = shrink(model, X)
        assert model.training and all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
        assert torch.equal(slim.get_submodule("a.1").running_mean, before["a.1.running_mean"][2:])

    def test_random_numbers_are_not_consumed(self) -> None:
        torch.manual_seed(3)
        shrink(net(), X)
        drawn = torch.rand(4)
        torch.manual_seed(3)
        net()
        assert torch.equal(drawn, torch.rand(4)), "shrinking must not disturb the global random numbers"

    def test_inputs_are_not_written_to(self) -> None:
        model = randomise(nn.Sequential(nn.ReLU(inplace=True), conv(3, 8), nn.ReLU(), conv(8, 4)).double())
        x = X.clone()
        shrink(random_zeros(model), x)
        assert torch.equal(x, X)

    @pytest.mark.parametrize("fault", ["round_to", "residual", "output"])
    def test_is_untouched_after_a_refusal(self, fault: str) -> None:
        model = net()
        if fault == "output":
            model.b.weight.data[0] = float("nan")
        snapshot = Snapshot.of(model)
        with pytest.raises(ShrinkError):
            shrink(model, X, **{"round_to": {"round_to": 0}, "residual": {"residual": "none"}, "output": {}}[fault])
        assert_untouched(model, snapshot)

    def test_may_be_freed_while_the_slim_one_lives(self) -> None:
        model = net()
        slim = shrink(model, X)
        expected = outputs(model, (X,))
        del model
        gc.collect()
        assert torch.allclose(slim.eval()(X), expected[0])

    def test_is_shrunk_where_gradients_are_off(self) -> None:
        with torch.no_grad():
            slim = shrink(net(), X)
        assert_shapes(slim, SHAPES)
        assert all(p.requires_grad for p in slim.parameters())


class TestMasksOfTorch:
    """torch.nn.utils.prune computes weights in hooks; what it leaves is no leaf and cannot be deep-copied."""

    def test_fresh_masks_are_baked_in_the_copy_only(self) -> None:
        model: Any = named(a=conv(3, 8), act=nn.ReLU(), b=conv(8, 5)).double()
        prune.ln_structured(model.a, "weight", amount=3, n=1, dim=0)
        prune.random_unstructured(model.b, "weight", amount=0.5)
        names = set(model.state_dict())
        slim = shrink(model, X)
        assert set(model.state_dict()) == names and prune.is_pruned(model)
        assert_same_output(model, slim, (X,))
        assert_shapes(
            slim, {"a.weight": (5, 3, 3, 3), "b.weight": (5, 5, 3, 3), "a.weight_orig": None, "a.weight_mask": None}
        )
        assert not slim.get_submodule("a")._forward_pre_hooks

    def test_the_masks_still_hold_in_training_afterwards(self) -> None:
        model: Any = named(a=conv(3, 8), b=conv(8, 5)).double()
        prune.ln_structured(model.a, "weight", amount=3, n=1, dim=0)
        shrink(model, X)
        model(X).sum().backward()
        assert model.a.weight_orig.grad is not None
        assert int((model.a.weight.flatten(1) == 0).all(1).sum()) == 3


class TestWhatComesBack:
    def test_is_an_ordinary_graph_module_with_the_names_of_the_original(self) -> None:
        model = net()
        slim = shrink(model, X)
        assert isinstance(slim, fx.GraphModule)
        assert set(slim.state_dict()) == set(model.state_dict()) | {"b.bias"}
        assert type(slim.get_submodule("a.0")) is nn.Conv2d and slim.get_submodule("a.0").out_channels == 6
        assert slim.get_submodule("a.1").num_features == 6 and slim.get_submodule("b").in_channels == 6

    def test_keeps_the_mode_and_what_is_frozen(self) -> None:
        model = net()
        model.a[0].weight.requires_grad_(requires_grad=False)
        model.a[1].eval()
        slim = shrink(model, X)
        assert slim.training and not slim.get_submodule("a.1").training
        assert not slim.get_parameter("a.0.weight").requires_grad and slim.get_parameter("b.weight").requires_grad
        assert not shrink(model.eval(), X).training

    @pytest.mark.parametrize("how", ["deepcopy", "pickle", "state_dict"])
    def test_can_be_copied_pickled_and_loaded(self, how: str) -> None:
        model = net()
        slim = shrink(model, X)
        if how == "state_dict":
            again = shrink(net(), X)
            again.load_state_dict({k: v * 0 for k, v in slim.state_dict().items()})
            again.load_state_dict(slim.state_dict())
        else:
            again = copy.deepcopy(slim) if how == "deepcopy" else pickle.loads(pickle.dumps(slim))
        assert_same_output(model, again, (X,))
        assert again.plan == slim.plan

    def test_trains(self) -> None:
        slim = shrink(net(), X).train()
        optimizer = torch.optim.SGD(slim.parameters(), 0.1)
        before = copy.deepcopy(slim.state_dict())
        F.mse_loss(slim(X), torch.ones(2, 5, 8, 8, dtype=X.dtype)).backward()
        optimizer.step()
        changed = {k for k, v in slim.state_dict().items() if not torch.equal(v, before[k])}
        assert changed == set(before), f"{set(before) - changed} did not move"

    def test_says_how_equal_it_is(self) -> None:
        found = shrink(net(), X).verification
        assert found is not None and 0 <= found.difference <= 1e-10
        assert len({run.shape for run in found.runs}) == 2 and {run.dtype for run in found.runs} == {"float64"}
        assert len({run.shape[0] for run in found.runs}) == 2, "two batch sizes"
        assert shrink(net(), X, verify=False).verification is None

    def test_the_plan_survives_json(self) -> None:
        plan = shrink(net(), X).plan
        assert ShrinkPlan.from_json(plan.to_json()) == plan
        assert plan.keep["a.0.weight"] == ((2, 3, 4, 5, 6, 7), None, None, None)
        change = {layer.name: layer for layer in plan.layers}["b"]
        assert (change.inputs, change.outputs, change.folded) == ((8, 6), (5, 5), 2)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_is_shrunk_as_it_is(self, dtype: torch.dtype) -> None:
        model = net().to(dtype)
        slim = shrink(model, X.to(dtype))
        assert {p.dtype for p in slim.parameters()} == {dtype}
        assert_shapes(slim, SHAPES)
        wide = [outputs(copy.deepcopy(m).double(), (X,)) for m in (model, slim)]
        assert difference(*wide) <= 2 * torch.finfo(dtype).eps, "a folded bias is rounded to the model's precision"

    def test_a_model_without_zeros_comes_back_whole(self) -> None:
        model = randomise(named(a=block(3, 8), b=conv(8, 5)).double())
        slim = shrink(model, X)
        assert_same_output(model, slim, (X,))
        assert {k: v.shape for k, v in slim.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}

    def test_nothing_warns(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert_smaller(net(), shrink(net(), X))


@pytest.mark.parametrize("padded", [0, 1])
def test_channels_stay_last_in_memory(padded: int) -> None:
    model: Any = randomise(named(a=block(3, 8), b=conv(8, 5, 3, padding=padded)).double(), 0, positive=True)
    zero_filters(model.a[0], (0, 1, 2))
    slim = shrink(model.to(memory_format=torch.channels_last), X)
    weight = slim.get_parameter("b.weight")
    assert weight.shape[1] < 8 and not weight.is_contiguous()
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert_same_output(model, slim, (X,))


def test_the_class_is_named_once_however_often_a_model_becomes_another() -> None:
    class Net(nn.Sequential):
        """A class of the user's."""

    model: nn.Module = Net(conv(3, 8), nn.ReLU(), conv(8, 4))
    x = torch.randn(1, 3, 8, 8)
    for _ in range(3):
        model = shrink(model, x)
        assert type(model).__name__ == "SlimNet"
    sparse = sparsify(copy.deepcopy(model), "filter", example_inputs=x)
    assert type(sparse).__name__ == "SparseNet"
    assert type(pickle.loads(pickle.dumps(sparse.finalize().reconfigure()))).__name__ == "SparseNet"
    assert type(sparse.shrink()).__name__ == "SlimNet"


class TestRefusals:
    def test_of_a_wrong_result(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A fault in cutting is caught by the proof: nothing wrong is ever given back."""
        monkeypatch.setattr(cutting, "folded", lambda mixer, value: torch.zeros(mixer.outputs.numel()))
        model = net()
        snapshot = Snapshot.of(model)
        with pytest.raises(ShrinkError, match="relative difference"):
            shrink(model, X)
        assert_untouched(model, snapshot)

    @pytest.mark.parametrize(
        ("wish", "words"),
        [
            ({"residual": "sum"}, '"union" or "gate"'),
            ({"round_to": 0}, "round_to=0"),
            ({"round_to": 2.5}, "round_to=2.5"),
        ],
    )
    def test_of_unknown_wishes(self, wish: dict[str, Any], words: str) -> None:
        with pytest.raises(ShrinkError, match=words):
            shrink(net(), X, **wish)

    def test_of_a_model_without_layers(self) -> None:
        with pytest.raises(ShrinkError, match="convolution"):
            shrink(nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)), X)

    def test_of_outputs_that_are_not_finite(self) -> None:
        model = net()
        model.a[1].running_var.fill_(float("nan"))
        with pytest.raises(ShrinkError, match="not finite"):
            shrink(model, X)


@pytest.mark.parametrize(
    "name", ["ResidualAdd", "UNet", "ShuffleUneven", "SqueezeExcite", "TwoInputs", "NestedOutputs"]
)
def test_the_proof_runs_at_two_sizes_on_real_structures(name: str) -> None:
    slim = shrink(CASES[name].model(), CASES[name].example())
    assert slim.verification is not None
    assert len(slim.verification.runs) == 2 and slim.verification.difference <= 1e-10


@pytest.mark.parametrize("given", ["tensor", "tuple", "dict", "none"])
def test_inputs_may_be_given_in_any_form(given: str) -> None:
    inputs = {"tensor": X, "tuple": (X,), "dict": {"input": X}, "none": None}[given]
    assert_shapes(shrink(net(), inputs), SHAPES)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_torchscript_takes_it() -> None:
    """Blocks inside an nn.Sequential have no forward of their own any more."""
    block = torchvision.models.resnet.BasicBlock
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sequential(block(8, 8), block(8, 8)), nn.Conv2d(8, 2, 1)).eval()
    zero_filters(model[0], (1, 2))
    slim, x = shrink(model, torch.randn(2, 3, 12, 12)), torch.randn(1, 3, 15, 9)
    torch.testing.assert_close(torch.jit.script(slim)(x), model(x))
    assert str(slim.get_submodule("1")).startswith("Sequential(")
