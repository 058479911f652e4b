"""Folded norms: the output stays the same whatever the layer is; what cannot be folded is left alone, with a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import campfire_fx
from campfire_fx import ShrinkError, shrink, sparsify
from campfire_fx.analysis.plan import NormChange, ShrinkPlan
from campfire_fx.base.compat import BATCH_NORM
from campfire_fx.shrink import verify
from tests.assertions import (
    Snapshot,
    assert_same_output,
    assert_says_something,
    assert_shares_no_memory,
    assert_untouched,
    outputs,
)
from tests.nets.case import named
from tests.random_nets import OPERATIONS, RandomNet
from tests.random_zeros import calibrate, random_zeros, randomise

X = torch.randn(2, 4, 9, 8, dtype=torch.float64)
SIGNAL, VOLUME = (torch.randn(2, 4, *size, dtype=torch.float64) for size in ([9], [5, 6, 7]))


def norms_in(model: nn.Module) -> list[str]:
    return [path for path, module in model.named_modules() if isinstance(module, BATCH_NORM)]


def folded(net: nn.Module, *inputs: Tensor, **options: Any) -> Any:
    """Return the folded model; its output is that of the model given, which is left as it was."""
    net = randomise(net.double(), 0).eval()
    inputs = inputs or (X,)
    assert_says_something(net, inputs)
    snapshot = Snapshot.of(net)
    slim = shrink(net, inputs, fold_norms=True, **options)
    assert_same_output(net, slim, inputs)
    assert_same_output(net, slim, tuple(torch.cat((value, value.flip(-1))) for value in inputs))
    assert_untouched(net, snapshot)
    assert_shares_no_memory(net, slim)
    assert ShrinkPlan.from_json(slim.plan.to_json()) == slim.plan
    return slim


def left(net: nn.Module, *inputs: Tensor, **options: Any) -> list[str]:
    """Return why norms were left alone; none was folded."""
    changes = folded(net, *inputs, **options).plan.norms
    assert changes and not any(change.layer for change in changes)
    return [change.reason for change in changes]


LAYERS = {
    "convolution": (nn.Conv2d(4, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), X),
    "with bias": (nn.Conv2d(4, 6, 3, stride=2), nn.BatchNorm2d(6), X),
    "mode of padding": (nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), nn.BatchNorm2d(6), X),
    "groups": (nn.Conv2d(4, 6, 3, groups=2), nn.BatchNorm2d(6), X),
    "depthwise": (nn.Conv2d(4, 8, 3, groups=4, bias=False), nn.BatchNorm2d(8), X),
    "signal": (nn.Conv1d(4, 6, 3, groups=2), nn.BatchNorm1d(6), SIGNAL),
    "volume": (nn.Conv3d(4, 6, 3, dilation=2), nn.BatchNorm3d(6), VOLUME),
    "transposed": (nn.ConvTranspose2d(4, 6, 3, 2, bias=False), nn.BatchNorm2d(6), X),
    "transposed, groups": (nn.ConvTranspose2d(4, 6, 3, 2, groups=2), nn.BatchNorm2d(6), X),
    "transposed signal": (nn.ConvTranspose1d(4, 6, 3), nn.BatchNorm1d(6), SIGNAL),
    "transposed volume": (nn.ConvTranspose3d(4, 8, 2, groups=4), nn.BatchNorm3d(8), VOLUME),
    "linear": (nn.Linear(9, 6), nn.BatchNorm1d(6), SIGNAL[:, 0]),
    "linear without bias": (nn.Linear(9, 6, bias=False), nn.BatchNorm1d(6), SIGNAL[:, 0]),
    "no scale": (nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, affine=False), X),
    "no momentum": (nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, momentum=None), X),
    "large epsilon": (nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, eps=0.5), X),
    "synchronised": (nn.Conv2d(4, 6, 3), nn.SyncBatchNorm(6), X),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_every_kind_of_layer(kind: str) -> None:
    layer, norm, x = LAYERS[kind]
    slim = folded(named(layer=layer, norm=norm, act=nn.Tanh()), x)
    assert slim.plan.norms == (NormChange("norm", "layer"),)
    assert norms_in(slim) == [] and slim.layer.weight.shape == layer.weight.shape
    assert slim.layer.bias.shape == (norm.num_features,) and isinstance(slim.layer.bias, nn.Parameter)


def test_the_numbers_are_those_of_the_definition() -> None:
    net: Any = named(layer=nn.Linear(2, 1), norm=nn.BatchNorm1d(1, eps=0.0)).double().eval()
    with torch.no_grad():
        net.layer.weight.copy_(torch.tensor([[1.0, 3.0]]))
        net.layer.bias.fill_(5.0)
        for tensor, value in zip((net.norm.running_mean, net.norm.running_var), (2.0, 4.0), strict=True):
            tensor.fill_(value)
        net.norm.weight.fill_(6.0)
        net.norm.bias.fill_(-1.0)
    slim: Any = shrink(net, torch.randn(3, 2, dtype=torch.float64), fold_norms=True)
    assert slim.layer.weight.tolist() == [[3.0, 9.0]] and slim.layer.bias.tolist() == [8.0]  # 6 / 2 (5 - 2) - 1


def test_off_unless_asked_for() -> None:
    slim = shrink(named(layer=nn.Conv2d(4, 6, 3), norm=nn.BatchNorm2d(6)).double(), X)
    assert slim.plan.norms == () and norms_in(slim) == ["norm"] and "Folded" not in str(slim.report())


def test_training_mode_uses_the_running_statistics() -> None:
    slim = folded(named(layer=nn.Conv2d(4, 6, 3), norm=nn.BatchNorm2d(6), act=nn.Tanh()))
    (expected,) = outputs(slim, (X,))
    assert torch.equal(slim.train()(X), expected)


def test_frozen_weights_stay_frozen_and_memory_formats_stay() -> None:
    net: Any = named(layer=nn.Conv2d(4, 6, 3, bias=False), norm=nn.BatchNorm2d(6))
    net.layer.to(memory_format=torch.channels_last)
    net.layer.weight.requires_grad_(False)
    slim = folded(net)
    assert not slim.layer.weight.requires_grad and not slim.layer.bias.requires_grad
    assert slim.layer.weight.is_contiguous(memory_format=torch.channels_last)


def test_two_norms_after_each_other_both_fold() -> None:
    slim = folded(named(layer=nn.Conv2d(4, 6, 3), one=nn.BatchNorm2d(6), two=nn.BatchNorm2d(6), act=nn.Tanh()))
    assert [change.layer for change in slim.plan.norms] == ["layer", "layer"] and norms_in(slim) == []


def test_the_report_says_how_many_and_why_not() -> None:
    net = named(first=nn.BatchNorm2d(4), layer=nn.Conv2d(4, 6, 3), norm=nn.BatchNorm2d(6), act=nn.Tanh())
    report = " ".join(str(folded(net).report()).split())  # however lines are broken
    assert "Folded 1 norm into the layers before." in report
    assert "Not folded: 1 norms at first: no convolution or linear layer lies directly before it." in report


class Net(nn.Module):
    """Layers and norms of equal width, called in a way that a test gives."""

    def __init__(self, call: Any) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.other = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.call = call

    def forward(self, x: Tensor) -> Any:
        return self.call(self, x)


def as_function(net: Any, x: Tensor, training: Any = False, eps: float = 1e-3) -> Tensor:
    norm = net.norm
    return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, training, 0.1, eps)


READ_ELSEWHERE = "its input is also read elsewhere"
USED_ELSEWHERE = "the weight of the layer before it is also used elsewhere"


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda n, x: n.norm(n.a(x)) + n.a(x + 1), USED_ELSEWHERE),
        (lambda n, x: n.norm(n.a(x)) + n.other(n.a(x + 1)), USED_ELSEWHERE),
        (lambda n, x: n.norm(n.a(x)) + F.conv2d(x, n.a.weight, padding=1), USED_ELSEWHERE),
        (lambda n, x: n.norm(n.a(x)) * n.a.weight.abs().sum(), USED_ELSEWHERE),
        (lambda n, x: n.norm(n.a(x)) + n.a.bias.sum(), USED_ELSEWHERE),
        (lambda n, x: n.norm(n.a(x)) + n.norm(n.b(x)), "it follows several layers"),
        (lambda n, x: n.norm(y := n.a(x)) + y, READ_ELSEWHERE),
        (lambda n, x: n.norm(y := n.a(x)) + y[:, :1], READ_ELSEWHERE),
        (lambda n, x: (n.norm(y := n.a(x)), y), READ_ELSEWHERE),
        (lambda n, x: n.norm(torch.relu(n.a(x))), "no convolution or linear layer lies directly before it"),
        (lambda n, x: n.a(n.norm(x)), "no convolution or linear layer lies directly before it"),
        (
            lambda n, x: n.norm(F.conv2d(x, n.a.weight)),
            "no convolution or linear layer lies directly before it",
        ),
        (lambda n, x: n.norm(n.a(x)) + n.norm.running_var.sum(), "its statistics are also used elsewhere"),
        (lambda n, x: F.batch_norm(n.a(x), None, None, training=True), "it has no running statistics"),
        (
            lambda n, x: F.batch_norm(n.a(x), x.mean((0, 2, 3)), n.norm.running_var),
            "its numbers are computed",
        ),
    ],
)
def test_what_is_used_in_other_ways_is_left_alone(call: Any, reason: str) -> None:
    assert set(left(Net(call))) == {reason}


def test_all_calls_of_a_layer_may_be_followed_by_one_norm() -> None:
    slim = folded(Net(lambda n, x: n.norm(n.a(torch.tanh(n.norm(n.a(x)))))))
    assert slim.plan.norms == (NormChange("norm", "a"),) and norms_in(slim) == []


def test_norms_called_as_functions_fold_too() -> None:
    slim = folded(Net(lambda n, x: torch.tanh(as_function(n, n.a(x)))))
    assert slim.plan.norms == (NormChange("norm", "a"),)
    assert not [name for name in slim.state_dict() if "norm" in name]
    computed = folded(Net(lambda n, x: F.batch_norm(n.a(x), n.norm.running_mean + 1, n.norm.running_var * 2)))
    assert computed.plan.norms == (NormChange("norm", "a"),)
    measuring = randomise(Net(lambda n, x: as_function(n, n.a(x), training=True)).double(), 0).eval()
    (change,) = shrink(measuring, X, fold_norms=True).plan.norms
    assert change.reason == "it measures the batch"
    slim = folded(Net(lambda n, x: torch.tanh(as_function(n, n.a(x), training=n.training))))
    assert slim.plan.norms == (NormChange("norm", "a"),)


def test_a_tied_weight_is_left_alone() -> None:
    net = Net(lambda n, x: n.norm(n.a(x)) + n.b(x))
    net.b.weight = net.a.weight
    assert left(net) == [USED_ELSEWHERE]
    net = Net(lambda n, x: n.norm(n.a(x)) + n.b(x))
    net.b.bias = net.a.bias
    assert left(net) == [USED_ELSEWHERE]


def test_norms_that_measure_the_batch_are_left_alone() -> None:
    net = named(layer=nn.Conv2d(4, 6, 3), norm=nn.BatchNorm2d(6, track_running_stats=False), act=nn.Tanh())
    assert left(net) == ["it has no running statistics"]


def test_a_linear_layer_whose_features_are_not_the_channels_is_left_alone() -> None:
    net = named(layer=nn.Linear(9, 5), norm=nn.BatchNorm1d(4), act=nn.Tanh())
    assert left(net, SIGNAL) == ["its channels are not those of the layer before it"]
    net = named(layer=nn.Conv1d(4, 6, 2), norm=nn.BatchNorm1d(6), act=nn.Tanh())
    one = randomise(net.double(), 0).eval()
    assert_same_output(one, shrink(one, SIGNAL, fold_norms=True), (SIGNAL,))


def test_what_only_training_uses_or_uses_otherwise_is_left_alone() -> None:
    def auxiliary(n: Any, x: Tensor) -> Any:
        y = torch.tanh(n.a(x))
        return (y, n.norm(n.b(y))) if n.training else y

    assert left(Net(auxiliary), auxiliary=True) == ["only training uses it"]
    other = Net(lambda n, x: n.other(n.a(x)) if n.training else n.norm(n.a(x)))
    assert set(left(other, auxiliary=True)) == {USED_ELSEWHERE, "only training uses it"}


def test_both_graphs_are_edited_where_training_has_its_own() -> None:
    slim = folded(Net(lambda n, x: n.norm(n.a(F.dropout(x, 0.5, n.training))) * (2 if n.training else 1)))
    assert slim.plan.norms == (NormChange("norm", "a"),) and norms_in(slim) == []
    assert slim.train()(X).shape == X.shape


def test_numbers_of_another_type_are_left_alone() -> None:
    net = named(layer=nn.Conv2d(4, 6, 3), norm=nn.BatchNorm2d(6)).eval().to(torch.bfloat16)
    net.norm.float()
    (change,) = shrink(net, X.bfloat16(), fold_norms=True).plan.norms
    assert change.reason == "its numbers are of another type than those of the layer before it"


def test_autocast_is_left_alone() -> None:
    def cast(n: Any, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return torch.tanh(n.norm(n.a(x)))

    (change,) = shrink(Net(cast), X.float(), fold_norms=True).plan.norms
    assert change.reason == "it runs under autocast"


class Outside(nn.Module):
    """Looks at its data, so that only its parts are captured."""

    def __init__(self) -> None:
        super().__init__()
        self.part = named(layer=nn.Conv2d(4, 6, 3), norm=nn.BatchNorm2d(6), act=nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        x = self.part(x)
        return x if x.sum() > 0 else -x


def test_every_way_through_the_code_is_edited() -> None:
    class Ways(Net):
        def forward(self, x: Tensor, twice: bool = False) -> Tensor:
            y = torch.tanh(self.norm(self.a(x)))
            return self.norm(self.a(y)) if twice else y

    net = randomise(Ways(None).double(), 0).eval()
    slim = shrink(net, examples=[X, (X, True)], fold_norms=True)
    assert slim.plan.norms == (NormChange("norm", "a"),) and norms_in(slim) == []
    for inputs in ((X,), (X, True)):
        assert_same_output(net, slim, inputs)


def test_where_other_code_may_call_a_layer_it_is_left_alone() -> None:
    assert left(Outside()) == ["code outside of the graphs may call it"]


def test_hooks_keep_a_layer_and_a_norm_as_they_are() -> None:
    net = randomise(Net(lambda n, x: n.norm(n.a(x)) + n.other(n.b(x))).double(), 0).eval()
    net.other.register_forward_hook(lambda module, args, output: output * 3)
    net.a.register_forward_hook(lambda module, args, output: output * 2)
    slim = shrink(net, X, fold_norms=True)
    assert_same_output(net, slim, (X,))
    assert not any(change.layer for change in slim.plan.norms) and norms_in(slim) == ["norm", "other"]


def test_zeros_and_constants_go_before_norms_are_folded() -> None:
    net: Any = named(
        layer=nn.Conv2d(4, 6, 3, bias=False), norm=nn.BatchNorm2d(6), act=nn.Sigmoid(), last=nn.Conv2d(6, 2, 3),
        end=nn.BatchNorm2d(2),
    )  # fmt: skip
    with torch.no_grad():
        net.layer.weight[[1, 4]] = 0
    original = randomise(net.double(), 0).eval()
    slim: Any = shrink(original, X, fold_norms=True)
    assert_same_output(original, slim, (X,))
    assert slim.layer.weight.shape == (4, 4, 3, 3) and slim.layer.bias.shape == (4,) and norms_in(slim) == []
    assert slim.plan.layers[1].folded == 2


def test_cropped_and_gathered_layers_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("campfire_fx.passes.gather_columns.least_times", lambda *_: (1.0, 0.5))
    net: Any = named(layer=nn.Conv2d(4, 6, 3, padding=1), norm=nn.BatchNorm2d(6), act=nn.Tanh())
    mask = torch.zeros(4, 3, 3)
    mask[:2, 1, 1] = mask[1, 1, 2] = 1
    with torch.no_grad():
        net.layer.weight.mul_(mask)
    slim = folded(net, columns=True)
    assert slim.plan.columns[0].after == 3 and slim.plan.norms == (NormChange("norm", "layer"),)


NETWORKS = {"resnet18": 20, "mobilenet_v2": 52, "googlenet": 57}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_norm_of_a_network_is_folded(name: str) -> None:
    torch.manual_seed(0)
    options = {"init_weights": False} if name == "googlenet" else {}
    net = getattr(torchvision.models, name)(weights=None, num_classes=10, **options).double()
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    calibrate(random_zeros(randomise(net, 0), 0, linears=True), x)
    slim = shrink(net.eval(), x, fold_norms=True)
    assert_same_output(net, slim, (x,))
    assert len(slim.plan.norms) == sum(bool(change.layer) for change in slim.plan.norms) == NETWORKS[name]
    assert norms_in(slim) == []


numbers = st.integers(0, 23)
programs = st.lists(st.tuples(st.sampled_from(sorted(OPERATIONS)), numbers, numbers, numbers), min_size=1, max_size=10)


@settings(max_examples=40)
@given(programs, st.integers(0, 9999), st.sampled_from(["union", "gate"]))
def test_random_networks_keep_their_function(steps: list[tuple[str, int, int, int]], seed: int, residual: str) -> None:
    torch.manual_seed(seed)
    norms = [step for one in steps for step in (one, ("norm", 0, one[1], 0))]  # the second number: of the newest tensor
    net = random_zeros(randomise(RandomNet([("conv", 0, 1, 6), *norms]).double(), seed), seed, linears=True)
    slim = shrink(net, net.example(), residual=residual, fold_norms=True, verify=False)
    assert_same_output(net, slim, net.example())
    gone = {change.name for change in slim.plan.norms if change.layer}
    assert gone.isdisjoint(norms_in(slim))


@pytest.mark.parametrize("suffix", [".pt2", ".safetensors"])
def test_a_folded_model_is_exported(suffix: str, tmp_path: Path) -> None:
    slim = folded(named(layer=nn.Conv2d(4, 6, 3, bias=False), norm=nn.BatchNorm2d(6), act=nn.Tanh()))
    campfire_fx.export(slim, tmp_path / f"slim{suffix}")
    loaded: Any = campfire_fx.load(tmp_path / f"slim{suffix}")
    with torch.no_grad():
        torch.testing.assert_close(loaded(X), slim.eval()(X), rtol=0, atol=1e-12)


def test_a_sparse_model_folds_what_its_masks_leave() -> None:
    net = randomise(named(layer=nn.Conv2d(4, 8, 3), norm=nn.BatchNorm2d(8), act=nn.ReLU(), last=nn.Conv2d(8, 2, 1)), 0)
    sparse = sparsify(net, "filter", sparsity=0.5, prune_stem=True, example_inputs=X.float()).finalize()
    slim = sparse.shrink(fold_norms=True)
    assert_same_output(sparse, slim, (X.float(),))
    assert slim.plan.norms == (NormChange("norm", "layer"),) and slim.get_parameter("layer.weight").shape[0] < 8


def test_an_optimizer_is_refused() -> None:
    net = Net(lambda n, x: n.norm(n.a(x))).double()
    with pytest.raises(ShrinkError, match=r"^fold_norms=True with an optimizer: .* Give no optimizer"):
        shrink(net, X, optimizer=torch.optim.SGD(net.parameters(), lr=0.1), fold_norms=True)
    wrong: Any = "yes"
    with pytest.raises(ShrinkError, match="fold_norms='yes' is not a yes or no"):
        shrink(net, X, fold_norms=wrong)


def test_a_wrong_fold_is_found_at_its_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    from campfire_fx.passes import fold_norms

    right = fold_norms.fuse_conv_bn_weights

    def wrong(weight: Tensor, bias: Any, mean: Tensor, *rest: Any) -> Any:
        return right(weight, bias, mean + (mean.numel() == 5), *rest)

    monkeypatch.setattr(fold_norms, "fuse_conv_bn_weights", wrong)
    net = named(one=nn.Conv2d(4, 6, 3), first=nn.BatchNorm2d(6), act=nn.Tanh(), two=nn.Conv2d(6, 5, 3),
                second=nn.BatchNorm2d(5), end=nn.Tanh())  # fmt: skip
    with pytest.raises(verify.ShrinkError, match=r"would change the output.* The first node that differs is two\."):
        shrink(randomise(net.double(), 0), X, fold_norms=True)
