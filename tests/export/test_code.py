"""The generated model code: what it reads like, what it needs, and that it says the same every time."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
import torch
from torch import fx, nn

from campfire_fx.base.errors import ExportError
from campfire_fx.export import export, load
from tests.export.nets import IMAGE, NETS, Bottleneck, build

RESIDUAL = '''
class Layers(nn.Module):
    """Keeps the layers, parameters and buffers it is given as attributes."""

    def __init__(self, **layers):
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)


class Bottleneck(Layers):
    """stages.0, stages.1."""

    def forward(self, x):
        y = self.up(self.relu(self.down(x)))
        return self.relu((self.gamma * y) + x)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 4, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
        )
        self.stages = nn.ModuleList(
            [
                Bottleneck(
                    down=nn.Conv2d(4, 3, kernel_size=1),
                    relu=nn.ReLU(inplace=True),
                    up=nn.Conv2d(3, 4, kernel_size=3, padding=1),
                    gamma=nn.Parameter(torch.zeros(4, 1, 1)),
                ),
                Bottleneck(
                    down=nn.Conv2d(4, 2, kernel_size=1),
                    relu=nn.ReLU(inplace=True),
                    up=nn.Conv2d(2, 4, kernel_size=3, padding=1),
                    gamma=nn.Parameter(torch.zeros(4, 1, 1)),
                ),
            ],
        )
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        x = self.stages[1](self.stages[0](self.stem(x)))
        return self.head(x.mean((2, 3)))
'''


def foreign(x: torch.Tensor) -> torch.Tensor:
    return x + 1


def code_of(model: nn.Module, folder: Path, example: object) -> str:
    export(model, folder / "it.pt", example)
    return (folder / "it.py").read_text()


def test_blocks_are_classes_and_widths_stand_where_they_are_built(tmp_path: Path) -> None:
    model, args = build("residual")
    code = code_of(model, tmp_path, args)
    assert code.partition("from torch import nn\n")[2].partition("\n\ndef load")[0].strip() == RESIDUAL.strip()


@pytest.mark.parametrize("name", NETS)
def test_code_needs_torch_alone_fits_the_page_and_never_varies(name: str, tmp_path: Path) -> None:
    model, args = build(name)
    code = code_of(model, tmp_path, args)
    imported = {
        name.partition(".")[0]
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }
    assert imported <= {"torch"} | set(sys.stdlib_module_names)
    assert max(map(len, code.splitlines())) <= 104
    again, args = build(name)
    assert code_of(again, tmp_path, args) == code


@pytest.mark.parametrize("name", [name for name in NETS if name not in ("functional", "shared")])
def test_names_in_the_state_dict_are_the_models(name: str, tmp_path: Path) -> None:
    model, args = build(name)
    export(model, tmp_path / "it.safetensors", args)
    found = load(tmp_path / "it.safetensors").state_dict()
    assert {key: tensor.shape for key, tensor in found.items()} == {
        key: tensor.shape for key, tensor in model.state_dict().items()
    }


def test_tensors_that_a_state_dict_leaves_out_are_saved_all_the_same(tmp_path: Path) -> None:
    model, args = build("functional")
    export(model, tmp_path / "it.pt", args)
    extra = torch.load(tmp_path / "it.pt", weights_only=True).keys() - model.state_dict().keys()
    assert "var" in extra and len(extra) == 2


def test_tied_weights_stay_tied_and_trainable(tmp_path: Path) -> None:
    model, args = build("shared")
    export(model, tmp_path / "it.pt", args)
    found = load(tmp_path / "it.pt")
    assert found.second.weight is found.first.weight
    found.train()(*args).sum().backward()
    assert found.first.weight.grad is not None


def test_a_flat_graph_without_any_note_of_modules_comes_out_the_same(tmp_path: Path) -> None:
    model, args = build("residual")
    graph = fx.symbolic_trace(model)
    for node in graph.graph.nodes:
        node.meta.clear()
    export(graph, tmp_path / "it.pt", args)
    assert torch.equal(load(tmp_path / "it.pt")(*args), model(*args))


def test_an_operation_put_into_a_block_keeps_the_block(tmp_path: Path) -> None:
    model, args = build("residual")
    graph = fx.symbolic_trace(model)
    graph.register_buffer("turn", torch.tensor([3, 2, 1, 0]))
    node = next(node for node in graph.graph.nodes if node.target == "stages.0.up")
    with graph.graph.inserting_after(node):
        turn = graph.graph.get_attr("turn")
        with graph.graph.inserting_after(turn):
            turned = graph.graph.call_function(torch.index_select, (node, 1, turn))
    node.replace_all_uses_with(turned, delete_user_cb=lambda user: user is not turned)
    graph.recompile()
    code = code_of(graph, tmp_path, args)
    assert "self.stages[0](self.stem(x), self.turn)" in code
    assert torch.equal(load(tmp_path / "it.pt")(*args), graph(*args))


def test_a_block_called_twice_is_one_module(tmp_path: Path) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block, self.between = Bottleneck(3, 2), nn.Sigmoid()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.block(self.between(self.block(x)))

    model = Twice().eval()
    x = torch.randn(IMAGE)
    export(model, tmp_path / "it.pt", x)
    found = load(tmp_path / "it.pt")
    assert torch.equal(found(x), model(x))
    assert sum(p.numel() for p in found.parameters()) == sum(p.numel() for p in model.parameters())


def test_activations_are_let_go_of(tmp_path: Path) -> None:
    """A long chain with branches needs few variables, so few activations live at once."""

    class Long(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convs = nn.ModuleList([nn.Conv2d(2, 2, 1) for _ in range(24)])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for conv in self.convs:
                x = conv(x).sigmoid() * x + conv(x)
            return x

    code = code_of(Long().eval(), tmp_path, torch.randn(1, 2, 4, 4))
    forward = code.partition("def forward(self, x):")[2].partition("def load")[0]
    assert len(forward.splitlines()) > 24
    assigned = {line.split(" = ")[0].strip() for line in forward.splitlines() if " = " in line}
    assert assigned <= {"x", "y", "z"}


def test_a_function_outside_torch_is_named(tmp_path: Path) -> None:
    graph = fx.symbolic_trace(nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()).eval())
    (output,) = (node for node in graph.graph.nodes if node.op == "output")
    with graph.graph.inserting_before(output):
        output.args = (graph.graph.call_function(foreign, output.args),)
    graph.recompile()
    with pytest.raises(ExportError, match=r"at foreign: it calls .*test_code\.foreign, which is not part of torch"):
        export(graph, tmp_path / "it.pt", torch.randn(IMAGE))


def test_stochastic_depth_is_left_out_of_inference(tmp_path: Path) -> None:
    ops = pytest.importorskip("torchvision.ops")
    model = nn.Sequential(nn.Conv2d(3, 3, 1), ops.StochasticDepth(0.5, "row")).eval()
    code = code_of(model, tmp_path, torch.randn(IMAGE))
    assert "stochastic" not in code


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_dtypes(dtype: torch.dtype, tmp_path: Path) -> None:
    model, _ = build("chain")
    model.to(dtype)
    x = torch.randn(IMAGE).to(dtype)
    export(model, tmp_path / "it.safetensors", x)
    found = load(tmp_path / "it.safetensors")
    assert found(x).dtype == dtype and torch.equal(found(x), model(x))


def test_a_loaded_model_knows_the_example_that_its_file_speaks_of(tmp_path: Path) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: torch.Tensor, scale: torch.Tensor, doubled: bool = False) -> torch.Tensor:
            return self.conv(x).mean((2, 3)) * scale * (1 + doubled)

    given = torch.randn(2, 3, 12, 10), torch.ones(4, dtype=torch.int64)
    export(Two(), tmp_path / "two.pt", given)
    (image, scale), kwargs = load(tmp_path / "two.pt").example
    assert (image.shape, image.dtype, kwargs) == ((2, 3, 12, 10), torch.float32, {})
    assert (scale.shape, scale.dtype) == ((4,), torch.int64)
    assert export(load(tmp_path / "two.pt"), tmp_path / "again.pt2").difference < 1e-5
