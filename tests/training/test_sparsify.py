"""sparsify: one call on any CNN, the model given untouched, and bad input told in one sentence."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.utils import prune

from campfire_fx import CampfireError, RegimeError, SparseModel, sparsify
from campfire_fx.layers.masked import MaskedConv2d
from campfire_fx.sparsity import COLUMN, WITHIN_LAYER, Cut, Regime, l2, window
from tests.sparse_training import IMAGE, PRUNED, Net


def test_one_call_is_enough() -> None:
    model = Net()
    model_state = copy.deepcopy(model.state_dict())
    sparse = sparsify(model)
    assert isinstance(sparse, SparseModel) and isinstance(sparse, fx.GraphModule)
    record = sparse.sparsity()
    assert (record.regime, record.final, record.era, record.true) == ("combined", 0.7, (0, 10), 0)
    assert {row.name for row in record.layers if not row.reason} == set(PRUNED)
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(sparse.eval()(x), model.eval()(x))
    assert all(torch.equal(value, model_state[name]) for name, value in model.state_dict().items())


def test_the_model_given_stays_as_it_was() -> None:
    model = Net().train()
    classes = [type(module) for module in model.modules()]
    state = copy.deepcopy(model.state_dict())
    sparse = sparsify(model, era=(0, 0), example_inputs=IMAGE)
    optimizer = torch.optim.SGD(sparse.parameters(), 0.1)
    sparse.attach(optimizer, steps_per_epoch=1)
    sparse(torch.randn(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    assert [type(module) for module in model.modules()] == classes
    assert model.training and all(p.grad is None for p in model.parameters())
    assert not any(module._buffers.get("mask") is not None for module in model.modules())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    "regime", ["window", "ck", "combined", "inter-epoch", "fine-fc", "block-fc", "filter", "2:4", "unstructured"]
)
def test_every_regime_by_name(regime: str) -> None:
    sparse = sparsify(Net(), regime, sparsity=0.6, example_inputs=IMAGE).finalize()
    record = sparse.sparsity()
    assert record.regime == regime and record.zeros > 0
    assert torch.isfinite(sparse(torch.randn(2, 3, 8, 8))).all()


def test_a_composition_of_ones_own() -> None:
    columns = Cut(COLUMN, l2, WITHIN_LAYER)
    sparse = sparsify(Net(), Regime("column", columns, columns, None), sparsity=0.5, example_inputs=IMAGE).finalize()
    weight = sparse.get_submodule("conv2").weight
    assert isinstance(weight, Tensor)
    assert int((~weight.any(0)).sum()) == 36


def test_wishes_reach_the_layers() -> None:
    sparse = sparsify(
        Net(), era=(2, 8), exponent=1.0, overrides={"conv1": 0.5, "conv2": {"era": (0, 1)}}, prune_1x1=False,
        prune_fc=False, prune_stem=True, example_inputs=IMAGE,
    )  # fmt: skip
    sparse.epoch(5)
    rows = {row.name: row for row in sparse.sparsity().layers}
    assert {name: round(row.target, 3) for name, row in rows.items()} == {
        "stem": 0.35, "conv1": 0.25, "conv2": 0.7, "point": 0.0, "fc": 0.0,
    }  # fmt: skip
    assert rows["point"].reason == "prune_1x1 is off" and rows["fc"].reason == "prune_fc is off"
    assert sparse.sparsity().era == (0, 8)


def test_the_window_cap() -> None:
    for regime in ("window", "combined"):
        sparse = sparsify(Net(), regime, sparsity=0.3, window_cap=2, example_inputs=IMAGE).finalize()
        weight = sparse.get_submodule("conv1").weight
        assert isinstance(weight, Tensor)
        assert int((weight != 0).sum((2, 3)).max()) == 2, regime


def test_kernels_ranked_within_each_channel() -> None:
    sparse = sparsify(Net(), "ck", sparsity=0.5, ck_scope="channel", prune_stem=True, example_inputs=IMAGE).finalize()
    for layer in (module for module in sparse.modules() if isinstance(module, MaskedConv2d)):
        assert layer.mask.flatten(2).any(2).sum(0).unique().numel() == 1


def test_inputs_by_position_and_by_name() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
            self.c = nn.Conv2d(4, 4, 3)

        def forward(self, image: Tensor, mask: Tensor) -> Tensor:
            return self.c(F.relu(self.a(image) + self.b(mask)))

    x, y = torch.randn(1, 3, 9, 9), torch.randn(1, 3, 9, 9)
    for example in ((x, y), {"image": x, "mask": y}):
        sparse = sparsify(Two(), example_inputs=example).finalize()
        assert sparse(image=x, mask=y).shape == (1, 4, 5, 5)
        assert [row.name for row in sparse.sparsity().pruned] == ["c"], "both stems stay dense"


def test_islands_are_sparse_too() -> None:
    """A model that is not captured whole keeps its class, its Python, and becomes a SparseModel all the same."""

    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = Net()
            self.scale = 2.0

        def forward(self, x: Tensor) -> Tensor:
            out = self.body(x)
            return out * self.scale if bool(out.sum() > 0) else out

    model = Detector().eval()
    x = torch.randn(2, 3, 8, 8)
    sparse = sparsify(model, "filter", sparsity=0.5, era=(0, 2), example_inputs=torch.randn(1, 3, 8, 8))
    assert isinstance(sparse, SparseModel) and isinstance(sparse, Detector) and not isinstance(sparse, fx.GraphModule)
    assert torch.equal(sparse(x), model(x)) and isinstance(model.body, Net)
    assert sparse.sparsity().unmasked == (), "all that holds weights is in the island"
    optimizer = torch.optim.SGD(sparse.parameters(), 0.1, momentum=0.9)
    sparse.attach(optimizer, steps_per_epoch=1)
    for _ in range(3):
        sparse(x).sum().backward()
        optimizer.step()
    twin = copy.deepcopy(sparse)
    assert isinstance(twin, SparseModel) and isinstance(twin, Detector)
    assert twin.sparsity() == sparse.sparsity() and sparse.sparsity().true == pytest.approx(0.5, abs=0.02)
    assert torch.equal(twin(x), sparse(x))
    fresh = sparsify(model, "filter", sparsity=0.5, era=(0, 2), example_inputs=IMAGE)
    fresh.load_state_dict(sparse.state_dict())
    assert torch.equal(fresh(x), sparse(x)) and fresh.sparsity() == sparse.sparsity()
    assert {name for name, _ in sparse.named_parameters()} == {name for name, _ in model.named_parameters()}
    slim = sparse.shrink()
    assert isinstance(slim, Detector) and slim.get_submodule("body.conv1").weight.shape[0] == 4
    assert (slim(x) - sparse(x)).abs().max() < 1e-5 * sparse(x).abs().max()


class Dense(nn.Module):
    """No convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x)


class Functional(nn.Module):
    """A convolution, but no layer of torch's."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(4, 3, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel)


@pytest.mark.parametrize(
    ("model", "wishes", "text"),
    [
        (Net(), {"sparsity": 1.0}, r"sparsity at sparsify: 1\.0 is outside \[0, 1\)\. Give the fraction"),
        (Net(), {"sparsity": -0.1}, r"sparsity at sparsify: -0\.1 is outside"),
        (Net(), {"sparsity": 70}, r"sparsity at sparsify: 70 is outside"),
        (Net(), {"overrides": {"conv1": 1.5}}, r"sparsity at overrides 'conv1': 1\.5 is outside"),
        (Net(), {"overrides": {"conv9": 0.5}}, r"overrides 'conv9': no layer has such a path\. Did you mean 'conv"),
        (Net(), {"era": (10, 4)}, r"era: \(10, 4\) is not a span of epochs\. Give \(start, end\)"),
        (Net(), {"era": 10}, r"era at sparsify: 10 is not a pair of epochs\."),
        (Net(), {"exponent": 0.0}, r"exponent: 0\.0 is not above 0\. Give a positive number"),
        (Net(), {"regime": "combine"}, r"unknown regime 'combine'\. Did you mean 'combined'\?"),
        (Net(), {"regime": None}, r"regime: None is neither a name nor a Regime\. Give a name"),
        (Net(), {"dead_norm": "fold"}, r"dead_norm: 'fold' is not known\. Use 'zero' or 'keep'\."),
        (Net(), {"regime": "ck", "window_cap": 2}, r"window_cap: regime 'ck' takes none\. Use it with 'window'"),
        (
            Net(),
            {"regime": window(), "window_cap": 2},
            r"window_cap: regime 'window' takes none\. Use it with 'window'",
        ),
        (Net(), {"regime": "filter", "ck_scope": "channel"}, r"ck_scope: regime 'filter' takes none\. Use it with 'ck"),
        (Net(), {"ck_scope": "all"}, r"ck_scope: 'all' is not known\. Use 'layer' or 'channel'\."),
        (Net(), {"window_cap": 0}, r"regime 'combined': a cap of 0 non-zeros leaves nothing of a kernel\. Give 1"),
        (
            nn.Sequential(nn.Conv2d(3, 4, 3)),
            {},
            r"regime 'combined' at 0: every layer would stay dense; .* Name a layer",
        ),
    ],
)
def test_bad_wishes_are_one_clear_sentence(model: nn.Module, wishes: dict[str, Any], text: str) -> None:
    state = copy.deepcopy(model.state_dict())
    with pytest.raises(RegimeError, match=text):
        sparsify(model, **({"example_inputs": IMAGE} | wishes))
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert "mask" not in "".join(state)


@pytest.mark.parametrize(
    ("model", "regime", "example", "text"),
    [
        (
            Dense(),
            "combined",
            torch.randn(1, 4),
            "Dense: it has no convolution that can hold a mask. Give a model that",
        ),
        (Functional(), "combined", IMAGE, "Functional: it has no convolution that can hold a mask. kernel: a function"),
        (nn.Sequential(nn.Conv2d(3, 4, 3)), "fine-fc", IMAGE, "it has no linear layer that can hold a mask"),
    ],
)
def test_a_model_without_such_layers_is_refused(model: nn.Module, regime: str, example: Tensor, text: str) -> None:
    with pytest.raises(CampfireError, match=text):
        sparsify(model, regime, example_inputs=example)


def test_a_sparse_model_is_refused() -> None:
    sparse = sparsify(Net(), example_inputs=IMAGE)
    for model in (sparse, nn.Sequential(nn.Identity(), sparse)):
        with pytest.raises(RegimeError, match=r"sparsify at .*: the layer has a mask already, so the model is"):
            sparsify(model, example_inputs=IMAGE)


def test_weights_that_hooks_compute_are_named_with_what_helps() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    prune.l1_unstructured(model[0], "weight", 0.5)
    with pytest.raises(CampfireError, match=r"0: its weight is computed, not a parameter\. Make it one, with torch.nn"):
        sparsify(model, example_inputs=IMAGE)
    prune.remove(model[0], "weight")
    assert sparsify(model, prune_stem=True, example_inputs=IMAGE).finalize().sparsity().true > 0.6


def test_the_fc_regimes_need_no_convolution() -> None:
    sparse = sparsify(Dense(), "fine-fc", sparsity=0.5, example_inputs=torch.randn(1, 4)).finalize()
    assert sparse.sparsity().zeros == 4
