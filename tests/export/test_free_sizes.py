"""What .pt2 and .onnx files leave free: the batch always where the model can, the image size where it can."""

from __future__ import annotations

import logging
from pathlib import Path

import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from campfire_fx.base.errors import ExportError
from campfire_fx.capture import trace
from campfire_fx.export import OnnxModel, export, load
from campfire_fx.export.written_out import WrittenOut
from tests.assertions import difference
from tests.export.nets import IMAGE, build

WARNINGS = "campfire_fx.export.program"


class FixedImage(nn.Module):
    """A linear layer over all positions: one image size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(400, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).flatten(1))


class FixedBatch(nn.Module):
    """A batch size written into the code."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x)).view(2, 4, 100).mean(2)


def test_batch_and_image_size_are_free_from_an_example_of_one_sample(tmp_path: Path) -> None:
    model, _ = build("residual")
    record = export(model, tmp_path / "it.pt2", torch.randn(1, *IMAGE[1:]))
    assert record.free == ("x[0]", "x[2]", "x[3]")
    found = load(tmp_path / "it.pt2")
    for shape in (IMAGE, (1, *IMAGE[1:]), (5, 3, 9, 20)):
        x = torch.randn(shape)
        assert difference([model(x)], [found(x)]) <= 1e-5


def test_fixed_image_size_keeps_the_batch_free(tmp_path: Path) -> None:
    record = export(FixedImage().eval(), tmp_path / "it.pt2", torch.randn(IMAGE))
    assert record.free == ("x[0]",)
    assert load(tmp_path / "it.pt2")(torch.randn(7, *IMAGE[1:])).shape == (7, 2)


def test_fixed_batch_size_is_exported_as_it_is_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = FixedBatch().eval()
    with caplog.at_level(logging.WARNING, WARNINGS):
        record = export(model, tmp_path / "it.pt2", torch.randn(IMAGE))
    assert record.free == ()
    assert "for the example's sizes alone: the model does not run at another batch size" in caplog.text
    x = torch.randn(IMAGE)
    assert torch.equal(load(tmp_path / "it.pt2")(x), model(x))


@pytest.fixture(scope="module")
def onnx_pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    model, args = build("pair")
    path = tmp_path_factory.mktemp("onnx") / "pair.onnx"
    export(model, path, args)
    return model, path


def test_onnx_is_called_like_the_model(onnx_pair: tuple[nn.Module, Path]) -> None:
    model, path = onnx_pair
    found = load(path)
    assert isinstance(found, OnnxModel)
    image, depth = torch.randn(5, 3, 10, 14), torch.randn(5, 1, 10, 14)
    expected, (first, second) = model(image, depth)
    for outputs in (found(image, depth), found(image, depth=depth), found(depth=depth, image=image)):
        a, (b, c) = outputs
        assert difference([expected, first, second], [a, b, c]) <= 1e-5


def test_onnx_is_one_file_with_named_axes_and_no_traces_of_the_machine(onnx_pair: tuple[nn.Module, Path]) -> None:
    _, path = onnx_pair
    assert sorted(path.parent.iterdir()) == [path]
    model = onnx.load(path, load_external_data=False)
    onnx.checker.check_model(model)
    axes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in model.graph.input
    }
    assert axes == {"image": ["batch", 3, "height", "width"], "depth": ["batch", 1, "height", "width"]}
    assert __file__.encode() not in path.read_bytes()
    assert b"site-packages" not in path.read_bytes()


def test_an_exported_program_can_be_exported_again_but_has_no_layers_to_write(tmp_path: Path) -> None:
    model, args = build("residual")
    export(model, tmp_path / "it.pt2", args)
    found = load(tmp_path / "it.pt2")
    assert isinstance(found, nn.Module)
    export(found, tmp_path / "again.pt2", args)
    assert difference([model(*args)], [load(tmp_path / "again.pt2")(*args)]) <= 1e-5
    with pytest.raises(ExportError, match="torch.export made it, and it has no layers left"):
        export(found, tmp_path / "again.pt", args)


class ColumnReader(nn.Module):
    """Reads a picture column by column: its height is in the weights, its width is free."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 12, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.conv(x))
        return self.fc(y.permute(0, 3, 1, 2).flatten(2))


class Turned(nn.Module):
    """Samples itself at an affine grid of its own size."""

    def __init__(self, corners: bool) -> None:
        super().__init__()
        self.conv, self.corners = nn.Conv2d(3, 4, 3, padding=1), corners
        self.register_buffer("turn", torch.tensor([[0.9, -0.2, 0.1], [0.3, 1.1, 0.0]]))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        grid = F.affine_grid(self.turn.expand(x.shape[0], 2, 3), list(y.shape), align_corners=self.corners)
        return F.grid_sample(y, grid, align_corners=self.corners)


class Recurrent(nn.Module):
    """A recurrent layer over the columns: torch.export fixes the length of its sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.read = nn.Conv2d(3, 4, 3, padding=1), nn.GRU(4, 3, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.read(self.conv(x).mean(2).transpose(1, 2))[0]


@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
@pytest.mark.parametrize(("model", "free", "other"), [
    (ColumnReader(), ("x[0]", "x[3]"), (3, 3, 12, 31)),
    (Turned(False), ("x[0]", "x[2]", "x[3]"), (3, 3, 9, 20)),
    (Turned(True), ("x[0]", "x[2]", "x[3]"), (3, 3, 9, 20)),
], ids=["columns", "edges", "corners"])  # fmt: skip
def test_every_size_that_the_model_takes_is_free(
    tmp_path: Path, model: nn.Module, free: tuple[str, ...], other: tuple[int, ...], suffix: str
) -> None:
    model.eval()
    record = export(model, tmp_path / f"it{suffix}", torch.randn(2, 3, 12, 12))
    assert record.free == free
    x = torch.randn(other)
    assert difference([model(x)], [load(tmp_path / f"it{suffix}")(x)]) <= 1e-5


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("space", [(7, 4), (1, 5), (3, 1, 6)])
def test_an_affine_grid_written_out_is_torchs(space: tuple[int, ...], corners: bool) -> None:
    theta = torch.randn(2, len(space), len(space) + 1, dtype=torch.float64)
    size = (2, 3, *space)
    expected = F.affine_grid(theta, size, align_corners=corners)
    with WrittenOut():
        found = F.affine_grid(theta, size, align_corners=corners)
    assert found.shape == expected.shape and torch.allclose(found, expected, rtol=0, atol=1e-12)


def test_a_recurrent_layer_is_named_where_it_fixes_a_size(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    record = export(Recurrent().eval(), tmp_path / "it.pt2", torch.randn(2, 3, 12, 12))
    assert record.free == ("x[0]",)
    assert (
        "Exported for the example's image size alone: torch.export fixes the length of the sequence that read reads; "
        "a .safetensors file leaves it free." in caplog.text
    )


class Guarded(nn.Module):
    """One way for large images, another for small ones, and an option."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor, doubled: bool = False) -> Tensor:
        y = self.conv(x) if x.shape[2] > 6 else x
        return y * 2 if doubled else y


@pytest.mark.parametrize("name", ["it.pt2", "it.onnx", "it.safetensors"])
def test_what_is_guarded_is_exported(tmp_path: Path, name: str) -> None:
    model = Guarded().eval()
    module = trace(model, torch.randn(IMAGE)).module
    export(module, tmp_path / name, torch.randn(IMAGE))
    x = torch.randn(3, 3, 9, 20)
    found = load(tmp_path / name)
    assert difference([model(x)], [found(x)]) <= 1e-5
    if name == "it.safetensors":
        for wrong in ((x[:, :, :5], False), (x, True)):
            with pytest.raises(AssertionError, match="this model was traced with"):
                found(*wrong)
