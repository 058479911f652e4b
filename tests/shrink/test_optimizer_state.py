"""An optimizer follows its model into the smaller one: parameters exchanged, state cut by the same channels."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from campfire_fx import shrink
from campfire_fx.base.errors import ShrinkError
from tests.assertions import assert_same_output, assert_smaller
from tests.nets.case import block, conv, named
from tests.random_zeros import zero_filters

X = torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Scale(nn.Module):
    """Multiplies by a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.randn(8, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.by


class TestOptimizer:
    @pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop])
    def test_state_is_cut_by_the_same_channels(self, kind: Any) -> None:
        model: Any = named(a=block(3, 8), scale=Scale(), b=conv(8, 5, 1)).double()
        wishes = {"momentum": 0.9} if kind in (torch.optim.SGD, torch.optim.RMSprop) else {}
        optimizer = kind(model.parameters(), lr=0.01, **wishes)
        for _ in range(2):
            optimizer.zero_grad()
            model(X).square().mean().backward()
            optimizer.step()
        zero_filters(model.a[0], (1, 4))
        old = {n: dict(optimizer.state[p]) for n, p in model.named_parameters()}
        slim = shrink(model, X, optimizer=optimizer)
        kept = [0, 2, 3, 5, 6, 7]
        cut = {
            "a.0.weight": (kept,),
            "a.1.weight": (kept,),
            "a.1.bias": (kept,),
            "scale.by": (kept,),
            "b.weight": (slice(None), kept),
        }
        named_parameters = dict(slim.named_parameters())
        assert {id(p) for g in optimizer.param_groups for p in g["params"]} == {
            id(p) for p in named_parameters.values()
        }
        for name, index in cut.items():
            for key, value in old[name].items():
                got = optimizer.state[named_parameters[name]][key]
                whole = not torch.is_tensor(value) or value.ndim == 0
                assert got == value if whole else torch.equal(got, value[index]), f"{name} {key}"

    def test_training_goes_on_where_the_masked_model_would_be(self) -> None:
        """With the same masks kept by hand, big and slim model take the same steps (no norm, no constants)."""
        model: Any = named(a=conv(3, 8), act=nn.ReLU(), b=conv(8, 5)).double()
        zero_filters(model.a, (1, 4))
        optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
        _steps(model, optimizer, 3)
        big, other = copy.deepcopy(model), None
        other = torch.optim.SGD(big.parameters(), 0.05, momentum=0.9)
        other.load_state_dict(optimizer.state_dict())
        slim = shrink(model, X, optimizer=optimizer)
        assert_smaller(model, slim)
        _steps(slim, optimizer, 3)
        _steps(big, other, 3)
        assert_same_output(big, slim, (X,))


def _steps(model: Any, optimizer: torch.optim.Optimizer, count: int) -> None:
    for _ in range(count):
        optimizer.zero_grad()
        model(X).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_a_step_afterwards_is_the_step_of_the_masked_model(kind: str) -> None:
    """Dead filters, and the kernels that read them, are held at zero in the large model as a mask would."""
    model: Any = named(a=conv(3, 8), act=nn.ReLU(), b=conv(8, 8), c=conv(8, 5, 1)).double()
    make: Any = {
        "sgd": lambda parameters: torch.optim.SGD(parameters, 0.05, momentum=0.9, nesterov=True),
        "adam": lambda parameters: torch.optim.Adam(parameters, 0.01),
    }[kind]
    dead, kept = [1, 4], [0, 2, 3, 5, 6, 7]

    def mask() -> None:
        with torch.no_grad():
            model.a.weight[dead], model.b.weight[:, dead] = 0, 0

    large = make(model.parameters())
    mask()
    for _ in range(3):
        _steps(model, large, 1)
        mask()
    follower = make(model.parameters())
    follower.load_state_dict(copy.deepcopy(large.state_dict()))
    slim: Any = shrink(model, X, optimizer=follower)
    for _ in range(3):
        _steps(model, large, 1)
        mask()
        _steps(slim, follower, 1)
    torch.testing.assert_close(slim.a.weight, model.a.weight[kept])
    torch.testing.assert_close(slim.b.weight, model.b.weight[:, kept])
    torch.testing.assert_close(slim.c.weight, model.c.weight)


def test_state_of_a_grouped_weight() -> None:
    model: Any = named(a=conv(3, 8), b=conv(8, 6, groups=2), c=conv(6, 4)).double()
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    _steps(model, optimizer, 2)
    with torch.no_grad():
        model.b.weight[:3, 0], model.b.weight[3:, 2], model.c.weight[:, [1, 5]] = 0, 0, 0
    old = optimizer.state[model.b.weight]["momentum_buffer"].clone()
    slim: Any = shrink(model, X, optimizer=optimizer)
    got = optimizer.state[slim.b.weight]["momentum_buffer"]
    assert torch.equal(got[:2], old[[0, 2]][:, [1, 2, 3]]) and torch.equal(got[2:], old[[3, 4]][:, [0, 1, 3]])


EVERY = [cls for cls in vars(torch.optim).values() if isinstance(cls, type) and issubclass(cls, torch.optim.Optimizer)]
EVERY.remove(torch.optim.Optimizer)
REFUSED = {torch.optim.LBFGS}
MATRICES = {torch.optim.Muon}  # takes no other parameters
SPARSE = {torch.optim.SparseAdam}  # takes no other gradients
BY_FORM = {torch.optim.Adafactor, torch.optim.Muon}  # their steps depend on the size of the parameter
DEAD, KEPT = [1, 4], [0, 2, 3, 5, 6, 7]


def _matrices() -> Any:
    """A model with dead neurons whose weights, those that read them included, have had no gradient."""
    model: Any = named(a=nn.Linear(3, 8), act=nn.ReLU(), b=nn.Linear(8, 8), c=nn.Linear(8, 5)).double()
    with torch.no_grad():
        model.a.weight[DEAD], model.a.bias[DEAD], model.b.weight[:, DEAD] = 0, 0, 0
    return model


def _step(model: Any, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(X.mean((2, 3))).square().mean().backward()
    if type(optimizer) in SPARSE:
        for parameter in model.parameters():
            parameter.grad = parameter.grad.to_sparse()
    optimizer.step(lambda: torch.zeros(())) if type(optimizer) in REFUSED else optimizer.step()
    with torch.no_grad():
        if model.a.weight.shape[0] == 8:
            model.a.weight[DEAD], model.a.bias[DEAD], model.b.weight[:, DEAD] = 0, 0, 0


def _made(kind: Any, model: Any) -> torch.optim.Optimizer:
    held = [p for p in model.parameters() if p.ndim == 2 or kind not in MATRICES]
    wishes = {"momentum": 0.9} if kind in (torch.optim.SGD, torch.optim.RMSprop) else {}
    return kind(held, lr=0.01, **wishes)


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_every_optimizer_of_torch_is_carried_over_or_refused_by_name(kind: Any) -> None:
    model = _matrices()
    optimizer = _made(kind, model)
    for _ in range(3):
        _step(model, optimizer)
    before = copy.deepcopy(optimizer.state_dict())
    if kind in REFUSED:
        with pytest.raises(ShrinkError, match=rf"the {kind.__name__} holds parameters or their state in `_params` too"):
            shrink(model, X.mean((2, 3)), optimizer=optimizer)
        assert str(optimizer.state_dict()) == str(before)
        return
    large, follower = copy.deepcopy(model), optimizer
    other = _made(kind, large)
    other.load_state_dict(before)
    slim: Any = shrink(model, X.mean((2, 3)), optimizer=follower)
    assert slim.a.weight.shape == (6, 3) and slim.b.weight.shape == (8, 6)
    for parameter in slim.parameters():
        assert (parameter in follower.state) == (parameter.ndim == 2 or kind not in MATRICES)
        for name, value in follower.state[parameter].items() if parameter in follower.state else ():
            factor = {"row_var": (-1,), "col_var": (-2,)}.get(name, ())
            form = [1 if axis - parameter.ndim in factor else size for axis, size in enumerate(parameter.shape)]
            assert not torch.is_tensor(value) or value.shape in ((), torch.Size(form)), name
    _step(slim, follower)
    _step(large, other)
    if kind not in BY_FORM:
        torch.testing.assert_close(slim.a.weight, large.a.weight[KEPT])
        torch.testing.assert_close(slim.b.weight, large.b.weight[:, KEPT])


def _adafactors() -> list[Any]:
    """Adafactor of torch and of transformers, without what makes a step depend on how many weights there are."""
    found = [pytest.param(lambda p: torch.optim.Adafactor(p, 1e-6, eps=(None, 1e3), d=1e9), id="torch")]
    try:
        from transformers.optimization import Adafactor
    except ImportError:
        return found
    plain = {"scale_parameter": False, "relative_step": False, "clip_threshold": 1e9}
    return [*found, pytest.param(lambda p: Adafactor(p, lr=1e-3, beta1=0.9, **plain), id="transformers")]


@pytest.mark.parametrize("make", _adafactors())
@pytest.mark.parametrize("groups", [1, 2])
def test_factored_statistics_are_those_of_the_masked_model(make: Any, groups: int) -> None:
    """Rows and columns of linear layers, whose axes are channels, and of convolutions, whose axes are taps."""
    model: Any = named(
        a=conv(3, 8), act=nn.ReLU(), b=conv(8, 8, groups=groups), pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(),
        c=nn.Linear(8, 6), act2=nn.ReLU(), d=nn.Linear(6, 5),
    ).double()  # fmt: skip
    dead = [1, 5] if groups == 2 else DEAD

    def mask() -> None:
        with torch.no_grad():
            model.a.weight[dead], model.c.weight[[0, 2]], model.c.bias[[0, 2]] = 0, 0, 0
            model.b.weight[:4, [1]], model.b.weight[4:, [1]] = 0, 0
            if groups == 1:
                model.b.weight[:, dead] = 0
            model.b.weight[[3, 7]], model.c.weight[:, [3, 7]], model.d.weight[:, [0, 2]] = 0, 0, 0

    mask()
    optimizer = make(model.parameters())
    for _ in range(3):
        _steps(model, optimizer, 1)
        mask()
    follower = make(model.parameters())
    follower.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    slim: Any = shrink(model, X, optimizer=follower)
    assert slim.c.weight.shape == (4, 6) and slim.a.weight.shape[0] == 6
    for _ in range(2):
        _steps(model, optimizer, 1)
        mask()
        _steps(slim, follower, 1)
    kept = [i for i in range(8) if i not in dead]
    torch.testing.assert_close(slim.a.weight, model.a.weight[kept])
    torch.testing.assert_close(slim.c.weight, model.c.weight[[1, 3, 4, 5]][:, [0, 1, 2, 4, 5, 6]])
    torch.testing.assert_close(slim.d.weight, model.d.weight[:, [1, 3, 4, 5]])


class TestRefused:
    def test_state_of_another_form(self) -> None:
        model = _matrices()
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        _step(model, optimizer)
        optimizer.state[model.b.weight]["preconditioner"] = torch.eye(64)
        before = copy.deepcopy(optimizer.state_dict())
        with pytest.raises(ShrinkError, match=r"at b.weight: SGD keeps a state 'preconditioner' that is of shape"):
            shrink(model, X.mean((2, 3)), optimizer=optimizer)
        assert optimizer.param_groups[0]["params"][0] is model.a.weight
        assert str(optimizer.state_dict()) == str(before)

    def test_nested_state(self) -> None:
        model = _matrices()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        optimizer.state[model.a.weight]["blocks"] = [torch.ones(2)]
        with pytest.raises(ShrinkError, match="keeps a state 'blocks' that is a list"):
            shrink(model, X.mean((2, 3)), optimizer=optimizer)

    def test_state_of_a_parameter_that_stays_whole_may_be_anything(self) -> None:
        model = _matrices()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        optimizer.state[model.c.weight]["blocks"] = [torch.ones(2)]
        slim: Any = shrink(model, X.mean((2, 3)), optimizer=optimizer)
        assert len(optimizer.state[slim.c.weight]["blocks"]) == 1

    def test_optimizer_of_another_model(self) -> None:
        optimizer = torch.optim.SGD(_matrices().parameters(), 0.1)
        with pytest.raises(ShrinkError, match=r"the SGD holds no parameter of this Sequential\. Give the"):
            shrink(_matrices(), X.mean((2, 3)), optimizer=optimizer)

    def test_optimizer_around_another(self) -> None:
        class Around(torch.optim.Optimizer):
            def __init__(self, inner: torch.optim.Optimizer) -> None:
                super().__init__(inner.param_groups, {})
                self.inner = inner

        model = _matrices()
        with pytest.raises(ShrinkError, match="the Around holds parameters or their state in `inner` too"):
            shrink(model, X.mean((2, 3)), optimizer=Around(torch.optim.SGD(model.parameters(), 0.1)))
