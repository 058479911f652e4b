"""Run an .mlpackage without macOS: coremltools reads operations and weights back, torch computes them in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def _convolution(x: Tensor, weight: Tensor, bias: Tensor, **given: Any) -> Tensor:
    assert given["pad_type"] in ("custom", "valid"), given["pad_type"]
    first, last = given["pad"][::2].tolist(), given["pad"][1::2].tolist()
    assert first == last
    strides, dilations = given["strides"].tolist(), given["dilations"].tolist()
    return F.conv2d(x, weight, bias, strides, first, dilations, int(given["groups"]))


OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "cast": lambda x, dtype: x,
    "conv": _convolution,
    "relu": torch.relu,
    "add": lambda x, y: x + y,
    "reduce_mean": lambda x, axes, keep_dims: x.mean(axes.tolist(), bool(keep_dims)),
    "linear": F.linear,
}
"""Those of a ResNet, with the arguments that Core ML's language MIL gives them."""


def run_package(path: str, image: Tensor) -> Tensor:
    """Return what the only output of a file holds for one image; an operation beyond the table is a KeyError."""
    from coremltools.converters.mil.frontend.milproto.load import load
    from coremltools.models import MLModel

    model = MLModel(path, skip_model_load=True)
    spec = model.get_spec()
    program = load(spec, specification_version=spec.specificationVersion, file_weights_dir=model.weights_dir)
    main = program.functions["main"]
    ((name, described),) = main.inputs.items()
    assert tuple(described.shape) == tuple(image.shape)
    values = {name: image}

    def value(var: Any) -> Any:
        if var.name in values:
            return values[var.name]
        return torch.from_numpy(var.val).float() if getattr(var.val, "dtype", None) == "float16" else var.val

    for operation in main.operations:
        if operation.op_type != "const":
            given = {key: value(var) for key, var in operation.inputs.items()}
            x = given.pop("x")
            values[operation.outputs[0].name] = OPERATIONS[operation.op_type](x, **given)
    (output,) = main.outputs
    return values[output.name]
