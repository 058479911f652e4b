"""The .safetensors files are those of the package of that name, both ways."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch

from campfire_fx.base.errors import ExportError
from campfire_fx.export.safetensors import DTYPES, read_safetensors, write_safetensors
from campfire_fx.export.source import _loader

TENSORS = {str(dtype): torch.randn(3, 2).mul(9).to(dtype) for dtype in DTYPES} | {
    "a.scalar": torch.tensor(7),
    "an.empty": torch.zeros(2, 0),
    "transposed": torch.randn(3, 4).t(),
    "ünï": torch.tensor([True, False, True]),
}


def generated_reader() -> dict[str, object]:
    """Run the loader's text as a generated file would."""
    scope: dict[str, object] = {}
    exec("import json\nimport torch\n" + _loader([], True), scope)
    return scope


def assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor), name


def test_the_package_reads_what_is_written(tmp_path: Path) -> None:
    write_safetensors(TENSORS, tmp_path / "file")
    assert_equal(safetensors.torch.load_file(tmp_path / "file"), TENSORS)


@pytest.mark.parametrize("tensors", [TENSORS, {}])
def test_both_readers_read_what_the_package_writes(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    safetensors.torch.save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, tmp_path / "file")
    assert_equal(generated_reader()["read_safetensors"](tmp_path / "file"), tensors)
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
