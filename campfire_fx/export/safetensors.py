"""Writing and reading .safetensors with the package of that name, and the seal of this library in `__metadata__`.

Every generated model file has a reader of its own, so that it needs torch alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from campfire_fx.base.disk.archive import Unreadable, reason
from campfire_fx.base.disk.seal import blank, fault
from campfire_fx.base.disk.whole import write_file
from campfire_fx.base.errors import ExportError

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
    torch.complex64: "C64",
}
"""The dtypes that the generated readers know, by the name that the format has for them."""


def write_safetensors(tensors: Mapping[str, Tensor], path: Path, code: str | None = None) -> None:
    """Write the tensors, and close the seal of the file; the same tensors give the same bytes.

    Args:
        tensors: by name.
        path: where to.
        code: the model code that belongs to the tensors.

    Raises:
        ExportError: a tensor has a dtype that a generated reader does not know.
        OSError: the file cannot be written.
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES:
            raise ExportError(
                f"cannot write {name}: .safetensors has no {tensor.dtype}. Convert the tensor, or export to .pt2."
            )
    # The package refuses tensors that share memory, as tied weights do: each gets its own.
    own = {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    content = safetensors.torch.save(own, {"seal": blank(code), "format": "pt"})
    # Its metadata come in an order that differs from process to process.
    form, seal = b'"format":"pt"', f'"seal":"{blank(code)}"'.encode()
    start = content.index(b"}")
    header = content[:start].replace(form + b"," + seal, seal + b"," + form)
    write_file(path, lambda file: file.write(header + content[start:]), sealed=True)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file, sorted by name.

    Raises:
        Unreadable: it is no such file, or damaged, or holds a dtype that torch does not have.
    """
    try:
        spoilt = fault(path)
        if spoilt is None:
            return dict(sorted(safetensors.torch.load(path.read_bytes()).items()))  # it gives them in any order
    except Exception as error:  # what a damaged header leads to
        raise Unreadable(f"it is not a .safetensors file, or damaged ({reason(error)})") from error
    raise Unreadable(spoilt)
