"""The .safetensors files are those of the package of that name, both ways."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import safetensors.torch
import torch
from torch import nn

from campfire_fx.base.errors import ExportError
from campfire_fx.export import export
from campfire_fx.export.safetensors import DTYPES, read_safetensors, write_safetensors

TENSORS = {str(dtype): torch.randn(3, 2).mul(9).to(dtype) for dtype in DTYPES} | {
    "a.scalar": torch.tensor(7),
    "an.empty": torch.zeros(2, 0),
    "transposed": torch.randn(3, 4).t(),
    "ünï": torch.tensor([True, False, True]),
}


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The code that stands beside an exported file."""
    path = tmp_path_factory.mktemp("generated") / "model.safetensors"
    export(nn.Linear(2, 3), path, torch.randn(1, 2))
    spec = importlib.util.spec_from_file_location("generated", path.with_suffix(".py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor), name


def test_the_package_reads_what_is_written(tmp_path: Path) -> None:
    write_safetensors(TENSORS, tmp_path / "file")
    assert_equal(safetensors.torch.load_file(tmp_path / "file"), TENSORS)


@pytest.mark.parametrize("tensors", [TENSORS, {}])
def test_both_readers_read_what_the_package_writes(
    generated: ModuleType, tmp_path: Path, tensors: dict[str, torch.Tensor]
) -> None:
    safetensors.torch.save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, tmp_path / "file")
    assert_equal(generated.read_safetensors(tmp_path / "file"), tensors)
    assert_equal(read_safetensors(tmp_path / "file"), tensors)


def test_the_same_tensors_give_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    write_safetensors(TENSORS, tmp_path / "a")
    write_safetensors(dict(reversed(TENSORS.items())), tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_every_tensor_is_aligned_to_its_element(tmp_path: Path) -> None:
    write_safetensors(TENSORS, tmp_path / "file")
    data = (tmp_path / "file").read_bytes()
    assert int.from_bytes(data[:8], "little") % 8 == 0


def test_a_dtype_that_the_format_lacks_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"cannot write w: \.safetensors has no torch\.complex128"):
        write_safetensors({"w": torch.zeros(1, dtype=torch.complex128)}, tmp_path / "file")
