"""Files of torch's older exporter (`dynamo=False`), which writes sizes, paddings and norms in its own way."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from campfire_fx import read_onnx, shrink
from tests.random_zeros import random_zeros, randomise

pytest.importorskip("onnxruntime")


class Residual(nn.Module):
    """Stride, a shortcut, and a classifier behind `view`."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.body, self.head = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        x = F.relu(self.body(x) + x)
        return self.head(F.adaptive_avg_pool2d(x, 1).view(x.shape[0], -1))


class Shuffled(nn.Module):
    """Channels that are shuffled by sizes, halves, and an image that is made larger."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = (x := F.hardswish(self.first(x))).shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        a, b = x.chunk(2, 1)
        x = torch.cat([F.silu(self.second(a)), b], 1)
        return self.last(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Attended(nn.Module):
    """Squeeze and excite, a depthwise layer, a pool that pads, and a cut."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.depth = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.squeeze, self.excite, self.last = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1), nn.ConvTranspose2d(8, 4, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.depth(F.leaky_relu(self.first(x))))
        x = x * torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        return self.last(F.max_pool2d(F.pad(x, (1, 0, 1, 0)), 3, 2, 1))[:, :, 1:]


@pytest.mark.filterwarnings("ignore")  # that it is the older one
@pytest.mark.parametrize("kind", [Residual, Shuffled, Attended])
@pytest.mark.parametrize("opset", [11, 17])
def test_it_is_read_and_shrunk(kind: type[nn.Module], opset: int, tmp_path: Path) -> None:
    import onnxruntime

    torch.manual_seed(0)
    model, x = random_zeros(randomise(kind())).eval(), torch.randn(2, 3, 12, 12)
    path = tmp_path / "model.onnx"
    axes = {"x": {0: "n", 2: "h", 3: "w"}}
    torch.onnx.export(
        model, (x,), str(path), dynamo=False, opset_version=opset, input_names=["x"], dynamic_axes=axes,
        do_constant_folding=opset > 11,
    )  # fmt: skip
    read = read_onnx(path)
    slim = shrink(read, x)
    assert sum(p.numel() for p in slim.parameters()) < sum(p.numel() for p in read.parameters())
    session = onnxruntime.InferenceSession(str(path))
    for images in (x, torch.randn(3, 3, 16, 16)):
        expected = torch.from_numpy(session.run(None, {"x": images.numpy()})[0])
        torch.testing.assert_close(slim.eval()(images), expected, rtol=1e-4, atol=1e-5)
