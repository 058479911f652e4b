"""A function on a module's own weight becomes torch's layer, where that says the same."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from campfire_fx import CampfireError, sparsify
from campfire_fx.capture import trace
from campfire_fx.passes.make_layers import make_layers
from campfire_fx.passes.runner import apply
from tests.assertions import DOUBLE, difference, outputs

IMAGE = torch.randn(2, 4, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


class Function(nn.Module):
    """Holds a weight and a bias, and calls a function on them."""

    def __init__(self, call: Callable[[Tensor, Tensor, Tensor | None], Tensor], *shape: int, bias: bool = True) -> None:
        super().__init__()
        self.call = call
        generator = torch.Generator().manual_seed(2)
        self.weight = nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64))
        self.bias = nn.Parameter(torch.randn(6, generator=generator, dtype=torch.float64)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return self.call(x, self.weight, self.bias)


CALLS = {
    "Conv2d": (Function(lambda x, w, b: F.conv2d(F.pad(x, (0, 1, 0, 1)), w, b, stride=2), 6, 4, 3, 3), nn.Conv2d),
    "Conv2d, list": (Function(lambda x, w, b: F.conv2d(x, w, b, [2, 1], [1, 0], [1, 2], 2), 6, 2, 3, 3), nn.Conv2d),
    "Conv2d, same": (Function(lambda x, w, b: F.conv2d(x, w, padding="same"), 6, 4, 3, 3, bias=False), nn.Conv2d),
    "Conv1d": (Function(lambda x, w, b: F.conv1d(x.flatten(2), w, b, padding=1), 6, 4, 3), nn.Conv1d),
    "Conv3d": (Function(lambda x, w, b: F.conv3d(x[:, :, None], w, b), 6, 4, 1, 3, 3), nn.Conv3d),
    "ConvTranspose2d": (
        Function(lambda x, w, b: F.conv_transpose2d(x, w, b, 2, 1, 1, groups=2), 4, 3, 3, 3),
        nn.ConvTranspose2d,
    ),
    "Linear": (Function(lambda x, w, b: F.linear(x.mean((2, 3)), w, b), 6, 4), nn.Linear),
}


class Net(nn.Module):
    """One part between two others."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part
        self.tail = nn.Linear(6, 3).double()

    def forward(self, x: Tensor) -> Tensor:
        y = self.part(x)
        return self.tail(torch.relu(y.flatten(2).mean(2) if y.ndim > 2 else y))


@pytest.mark.parametrize("name", CALLS)
def test_a_function_becomes_the_layer(name: str) -> None:
    part, expected = CALLS[name]
    model = Net(copy.deepcopy(part))
    want, keys = model(IMAGE), list(model.state_dict())
    captured = trace(model, (IMAGE,))
    assert apply(captured, make_layers) == ("part",)
    assert type(captured.module.get_submodule("part")) is expected
    torch.testing.assert_close(captured.module(IMAGE), want, rtol=0, atol=0)
    assert list(captured.module.state_dict()) == keys
    assert captured.module.get_submodule("part").weight is model.part.weight


@pytest.mark.parametrize("name", CALLS)
def test_it_is_masked_and_shrunk(name: str) -> None:
    model = Net(copy.deepcopy(CALLS[name][0])).eval()
    regime = "fine-fc" if name == "Linear" else "filter"
    sparse = sparsify(model, regime, sparsity=0.5, example_inputs=IMAGE, prune_fc=True, prune_stem=True)
    sparse.finalize()
    part = sparse.get_submodule("part")
    assert not part.mask.all()
    assert difference(outputs(sparse, (IMAGE,)), outputs(sparse.shrink(), (IMAGE,))) < DOUBLE


class Padded(nn.Conv2d):
    """Pads by a module of its own."""

    def __init__(self) -> None:
        super().__init__(4, 6, 3)
        self.pad = nn.Sequential(nn.Identity(), nn.ZeroPad2d((0, 2, 0, 2)))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(self.pad(x), self.weight, self.bias)


def test_what_the_module_holds_besides_moves_next_to_it() -> None:
    model = Net(nn.Sequential(Padded(), nn.Conv2d(6, 6, 1))).double()
    want = model(IMAGE)
    captured = trace(model, (IMAGE,))
    assert apply(captured, make_layers) == ("part.0",)
    assert not list(captured.module.get_submodule("part.0").children())
    torch.testing.assert_close(captured.module(IMAGE), want, rtol=0, atol=0)


class Ungainly(nn.Module):
    """Uses one weight in a way that no single layer does."""

    def __init__(self, use: Callable[[Tensor, nn.Module], Tensor]) -> None:
        super().__init__()
        self.use = use
        self.held = nn.Conv2d(4, 4, 3, padding=1)
        self.held.register_buffer("gain", torch.ones(())) if "gain" in use.__code__.co_names else None

    def forward(self, x: Tensor) -> Tensor:
        return self.use(x, self.held)


USES = {
    "two strides": lambda x, c: F.conv2d(F.conv2d(x, c.weight, c.bias), c.weight, c.bias, 2),
    "standardised": lambda x, c: F.conv2d(x, c.weight - c.weight.mean(), c.bias),
    "read besides": lambda x, c: F.conv2d(x, c.weight, c.bias) * c.weight.sum(),
    "called besides": lambda x, c: c(F.conv2d(x, c.weight, c.bias, padding=1)),
    "without its bias": lambda x, c: F.conv2d(x, c.weight),
    "another tensor besides": lambda x, c: F.conv2d(x, c.weight, c.bias) * c.gain,
    "size in the settings": lambda x, c: F.conv2d(x, c.weight, c.bias, x.shape[-1] // 4),
}


@pytest.mark.parametrize("use", USES)
def test_what_is_no_single_layer_stays(use: str) -> None:
    model = Ungainly(USES[use])
    captured = trace(model, (IMAGE.float(),))
    assert apply(captured, make_layers) == ()
    torch.testing.assert_close(captured.module(IMAGE.float()), model(IMAGE.float()))


def test_a_computed_weight_is_said() -> None:
    with pytest.raises(CampfireError, match="held.weight: a weight is computed from it"):
        sparsify(Ungainly(USES["standardised"]), "combined", sparsity=0.5, example_inputs=IMAGE.float())


class Repeated(nn.Module):
    """One layer of its own kind, called on its own output."""

    def __init__(self) -> None:
        super().__init__()
        self.held = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = F.conv2d(x, self.held.weight, self.held.bias, padding=1)
        return x


def test_calls_in_a_row_read_one_another() -> None:
    model, x = Repeated(), torch.randn(1, 3, 6, 6)
    captured = trace(copy.deepcopy(model), x)
    assert apply(captured, make_layers) == ("held",)
    torch.testing.assert_close(captured.module(x), model(x))
