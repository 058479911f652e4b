"""What is given as a model: exported programs are followed, and what is no model is refused in one sentence."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from campfire_fx import shrink, sparsify, trace
from campfire_fx.base.errors import CaptureError
from tests.random_zeros import zero_filters

X, OTHER = torch.randn(2, 3, 12, 12), torch.randn(3, 3, 16, 20)


class Exported(nn.Module):
    """Operations that an exported graph calls by other names, or with other arguments, than people do."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.b, self.c, self.out = nn.Conv2d(16, 12, 3, padding=1, bias=False), nn.Conv2d(12, 12, 1), nn.Linear(12, 4)
        self.layer, self.drop = nn.LayerNorm(4), nn.Dropout2d(0.5)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        image = x[:, :1]
        x = F.max_pool2d(F.relu6(self.norm(self.a(x))), 2)
        x = F.hardswish(self.b(x), inplace=True) * 1
        y = F.interpolate(x, scale_factor=2, mode="nearest")
        y = y + F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
        y = self.drop(F.gelu(self.c(y)) * 1)
        y = y + F.interpolate(image, size=(x.shape[2] * 2, x.shape[3] * 2), mode="bilinear")
        y.mul_(2)
        z = F.adaptive_avg_pool2d(y, 1).flatten(1)
        z = torch.cat([z[:, 6:], z[:, :6]], -1)[..., :12]
        return self.layer(self.out(z)), F.softmax(z, 1).view(z.size(0), -1, 3).transpose(1, 2).contiguous()


def exported() -> tuple[nn.Module, torch.export.ExportedProgram]:
    model = Exported().eval()
    for layer in (model.a, model.b):
        zero_filters(layer, (0, 2, 3))
    free = torch.export.Dim.AUTO
    return model, torch.export.export(model, (X,), dynamic_shapes=({0: free, 2: free, 3: free},))


@pytest.mark.parametrize("as_module", [False, True])
def test_an_exported_program_shrinks_like_its_model(as_module: bool) -> None:
    model, program = exported()
    slim = shrink(program.module() if as_module else program, X)
    for inputs in (X, OTHER):
        for got, expected in zip(slim(inputs), model(inputs), strict=True):
            torch.testing.assert_close(got, expected)
    assert slim.get_parameter("a.weight").shape == (13, 3, 3, 3)
    assert slim.get_parameter("b.weight").shape == (9, 13, 3, 3)
    assert not any(isinstance(node.target, torch._ops.OpOverload) for node in slim.graph.nodes)


def test_an_exported_program_trains_sparse() -> None:
    _, program = exported()
    sparse = sparsify(program, "filter", sparsity=0.5, example_inputs=X)
    assert sparse(X)[0].shape == (2, 4)


def test_an_operation_without_a_name_of_its_own_stays() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.ops.aten.upsample_nearest2d.default(self.a(x), [9, 9], None, None))

    model = Odd().eval()
    torch.testing.assert_close(trace(model, X).module(OTHER), model(OTHER))


def test_an_operation_that_shares_its_name_with_another_function() -> None:
    class Windows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x)).unfold(2, 3, 2).sum(-1)  # not torch.nn.functional.unfold

    model = Windows().eval()
    program = torch.export.export(model, (X,))
    torch.testing.assert_close(shrink(program, X).eval()(X), model(X))


def test_a_compiled_model_is_the_model_inside() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()
    zero_filters(model[0], (1, 2))
    assert shrink(torch.compile(model), X).get_parameter("0.weight").shape == (6, 3, 3, 3)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_parallel_model_is_the_model_inside(compiled: bool) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()
    zero_filters(model[0], (1, 2))
    wrapped = torch.compile(nn.DataParallel(model)) if compiled else nn.DataParallel(model)
    assert shrink(wrapped, X).get_parameter("0.weight").shape == (6, 3, 3, 3)
    assert set(sparsify(wrapped, example_inputs=X).state_dict()) >= set(model.state_dict())


NO_MODELS: dict[str, tuple[Any, str]] = {
    "class": (nn.Conv2d, "Model at Conv2d: this is a class. Give an instance of it."),
    "function": (
        F.relu,
        (
            "Model at function: this is a function, which owns no weights. "
            "Give a torch.nn.Module that calls it in its forward."
        ),
    ),
    "weights": (
        nn.Conv2d(3, 4, 3).state_dict(),
        (
            "Model at OrderedDict: these are weights without code, as in a state_dict. "
            "Build the model, load them into it, and give that."
        ),
    ),
    "checkpoint": (
        {"epoch": 3, "model": nn.ReLU()},
        "Model at dict: this is a checkpoint with a model in it. Give what is under 'model'.",
    ),
    "name": ("net", "Model at str: 'net' is a name. Build or load that model, and give it."),
    "path": (Path("net.pt"), "'net.pt' is a name. Build or load that model, and give it."),
    "nothing": (None, "Model at NoneType: it is None. Give a torch.nn.Module."),
    "several": (
        [nn.ReLU(), nn.ReLU()],
        "Model at list: this is a list of things. Give one torch.nn.Module; several go into one that calls them.",
    ),
    "number": (3, "Model at int: this is no model. Give a torch.nn.Module."),
}


@pytest.mark.parametrize("given", NO_MODELS.values(), ids=NO_MODELS)
@pytest.mark.parametrize("call", [shrink, sparsify, trace])
def test_what_is_no_model(call: Any, given: tuple[Any, str]) -> None:
    with pytest.raises(CaptureError) as error:
        call(given[0], example_inputs=X)
    assert str(error.value).endswith(given[1]) and "\n" not in str(error.value)


@pytest.mark.parametrize("how", ["script", "trace"])
def test_torchscript_has_no_code_to_follow(how: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    program = torch.jit.script(model) if how == "script" else torch.jit.trace(model, X)
    with pytest.raises(CaptureError) as error:
        shrink(program, X)
    assert str(error.value) == (
        "Model at Sequential: it is a TorchScript program (of torch.jit.script or torch.jit.trace), which has no "
        "Python code to follow. Give the model that it was made from."
    )


def test_weights_without_values() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1)).to("meta")
    for example in (X, X.to("meta")):
        for call in (shrink, sparsify):
            with pytest.raises(CaptureError) as error:
                call(copy.deepcopy(model), example_inputs=example)
            assert str(error.value) == (
                "Weights at 0.weight: they are on the meta device, without values. "
                "Load a state_dict with assign=True first."
            )
    assert trace(model, X.to("meta")).whole  # shapes are enough for that
