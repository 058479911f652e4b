"""The benchmark of groups runs on a small network, and says of each layer what became of it."""

from __future__ import annotations

import sys
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

import bench_groups


def small(_name: str) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(16, 4),
    )  # fmt: skip


def test_a_network_and_its_layers_are_timed(capsys: pytest.CaptureFixture[str]) -> None:
    with (
        patch("torchvision.models.get_model", small),
        patch("bench_groups.session", lambda model, x, _path, _threads: bench_groups.called(model, x)),
        patch("campfire_fx.passes.group_filters.least_times_of", lambda runs, _device: [1.0] + [0.5] * (len(runs) - 1)),
    ):
        assert bench_groups.main(["--image", "12", "--repeats", "1", "--sparsity", "0.5"]) == 0
    lines = [[cell.strip() for cell in line.strip("│ ").split("│")] for line in capsys.readouterr().out.splitlines()]
    whole = {line[0]: line[1:] for line in lines if line[0] in ("dense", "channels", "groups")}
    assert list(whole) == ["dense", "channels", "groups"] and whole["groups"][-1] == "2 of 2"
    dense, channels, groups = (int(line[4].replace(",", "")) for line in whole.values())
    assert groups < channels <= dense
    assert whole["dense"][1] == whole["dense"][3] == "1.00x"
    layers = [line for line in lines if line[0].endswith(" px") or line[0] == "together"]
    assert [line[0] for line in layers] == ["2: 8-16, 3x3, 12 px", "5: 16-16, 3x3, 6 px", "together"]
    for _name, _times, *numbers, done in layers[:-1]:
        assert all(float(number.removesuffix("x")) > 0 for number in numbers) and done.startswith("4 x 4 of ")


@pytest.mark.parametrize("wrong", [("--repeats", "0"), ("--sparsity", "1")])
def test_what_cannot_be_timed_is_refused(wrong: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        bench_groups.main(wrong)
    assert "--sparsity more than 0" in capsys.readouterr().err


def test_a_file_runs_in_onnx_runtime(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    x = torch.randn(1, 3, 8, 8)
    conv = nn.Sequential(nn.Conv2d(3, 4, 3)).eval()
    (output,) = bench_groups.session(conv, x, tmp_path / "conv.onnx", 1)()
    torch.testing.assert_close(torch.from_numpy(output), conv(x))
