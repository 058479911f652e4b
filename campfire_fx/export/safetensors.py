"""Writing and reading .safetensors: an 8-byte header length, a JSON header, and the bytes of the tensors.

The format is written here rather than through the package of that name, so that exporting takes torch alone.
Files are the same bytes for the same tensors, and read by that package; their seal is in `__metadata__`. Every
generated model file has a reader of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO

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
"""The dtypes of the format, by the name it has for them."""


def write_safetensors(tensors: Mapping[str, Tensor], path: Path, code: str | None = None) -> None:
    """Write the tensors, widest dtype first and by name, so that each is aligned to its own size; seal the file.

    Args:
        tensors: by name.
        path: where to.
        code: the model code that belongs to the tensors.

    Raises:
        ExportError: a tensor is of a dtype that the format does not have.
        OSError: the file cannot be written.
    """
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, object] = {"__metadata__": {"seal": blank(code), "format": "pt"}}
    end = 0
    for name in order:
        tensor = tensors[name]
        if tensor.dtype not in DTYPES:
            raise ExportError(
                f"cannot write {name}: .safetensors has no {tensor.dtype}. Convert the tensor, or export to .pt2."
            )
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)

    def write(file: IO[bytes]) -> None:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            whole = tensors[name].detach().cpu().contiguous()
            flat = whole.as_strided((whole.numel(),), (1,))  # a stretched axis of one entry keeps its stride of 0
            file.write(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"")

    write_file(path, write, sealed=True)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name.

    Raises:
        Unreadable: it is no such file, or spoilt, or holds a dtype that is not known here.
    """
    try:
        spoilt = fault(path)
        if spoilt is None:
            return _tensors(path.read_bytes())
    except Exception as error:  # what a spoilt header leads to
        raise Unreadable(f"it is no .safetensors file, or spoilt ({reason(error)})") from error
    raise Unreadable(spoilt)


def _tensors(content: bytes) -> dict[str, Tensor]:
    """Return the tensors of a file by name; their bytes must be all of the file, each once."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header.pop("__metadata__", None)
    dtypes = {name: dtype for dtype, name in DTYPES.items()}
    tensors = {}
    at = 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        start, stop = entry["data_offsets"]
        if start != at or not start <= stop <= len(content) - end:
            raise ValueError(f"the bytes of {name} are not where they should be")
        at = stop
        data = bytearray(content[end + start : end + stop])
        dtype = dtypes[entry["dtype"]]
        flat = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
        tensors[name] = flat.reshape(entry["shape"])
    if at != len(content) - end:
        raise ValueError("there are bytes of no tensor")
    return {name: tensors[name] for name in header}
