"""Operators that compute each entry by itself, and those that sum up."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from campfire_fx.capture.from_onnx.values import Call, Numbers, as_tensor, numbers_of, plain_number

Operator = Callable[[Call], Any]


def _divided(first: Any, second: Any) -> Any:
    """ONNX divides whole numbers towards zero."""
    real = any(
        one.dtype.is_floating_point if hasattr(one, "dtype") else isinstance(one, float) for one in (first, second)
    )
    return first / second if real else torch.div(first, second, rounding_mode="trunc")


def _sizes_divided(first: Any, second: Any) -> Any:
    real = isinstance(first, float) or isinstance(second, float)
    return first / second if real else first // second  # sizes are not negative


def _binary(function: Callable[[Any, Any], Any], of_numbers: Callable[[Any, Any], Any] | None = None) -> Operator:
    """An operator of two values, on tensors or on numbers."""

    def call(call: Call) -> Any:
        first, second = call.values
        if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
            return _each(of_numbers or function, first, second)
        return function(*(as_tensor(plain_number(one), call) for one in (first, second)))

    return call


def _each(function: Callable[..., Any], *arrays: Numbers) -> Numbers:
    spread = np.broadcast_arrays(*arrays)
    return numbers_of(
        [function(*entries) for entries in zip(*(one.reshape(-1) for one in spread), strict=True)], spread[0].shape
    )


def _unary(of_tensors: Callable[[Tensor], Tensor], of_numbers: Callable[[Any], Any] | None = None) -> Operator:
    def call(call: Call) -> Any:
        value = call.values[0]
        if isinstance(value, np.ndarray) and of_numbers is not None:
            return _each(of_numbers, value)
        return of_tensors(as_tensor(value, call))

    return call


def _several(function: Callable[[Any, Any], Any], of_numbers: Callable[[Any, Any], Any]) -> Operator:
    def call(call: Call) -> Any:
        if all(isinstance(value, np.ndarray) for value in call.values):
            return reduce(partial(_each, of_numbers), call.values)
        return reduce(function, (call.tensor(position) for position in range(len(call.values))))

    return call


def _mean(call: Call) -> Tensor:
    return reduce(operator.add, (call.tensor(i) for i in range(len(call.values)))) / len(call.values)


def _clip(call: Call) -> Tensor:
    low, high = call.number("min", 1), call.number("max", 2)
    x = call.tensor()
    if (low, high) == (0.0, 6.0):
        return F.relu6(x)
    return x if low is None and high is None else torch.clamp(x, low, high)


def _where(call: Call) -> Any:
    condition, first, second = call.values
    if all(isinstance(value, np.ndarray) for value in call.values):
        return _each(lambda c, a, b: a if c else b, condition, first, second)
    condition = as_tensor(condition, call)
    return torch.where(condition.bool(), *(as_tensor(plain_number(one), call) for one in (first, second)))


_TYPES = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
}
_TYPES |= {10: torch.float16, 11: torch.float64, 16: torch.bfloat16}


def _cast(call: Call) -> Any:
    dtype = _TYPES.get(call.attribute("to"))
    if dtype is None:
        raise call.node.refused(f"it casts to ONNX's type {call.attribute('to')}")
    value = call.values[0]
    if isinstance(value, np.ndarray):
        return _each(bool if dtype == torch.bool else float if dtype.is_floating_point else int, value)
    return value.to(dtype)


def _softmax(function: Callable[..., Tensor]) -> Operator:
    def call(call: Call) -> Tensor:
        x = call.tensor()
        if call.node.opset >= 13:
            return function(x, dim=call.attribute("axis", -1))
        axis = call.attribute("axis", 1)  # of an input seen as a matrix
        return function(x.flatten(axis), dim=-1).reshape(x.shape)

    return call


def _reduced(function: Callable[..., Tensor], of_numbers: Callable[[Any], Any] | None = None) -> Operator:
    """An operator along axes: an attribute up to version 12 or 17, an input from then on."""

    def call(call: Call) -> Any:
        value, axes, keep = call.values[0], call.numbers("axes", 1), bool(call.attribute("keepdims", 1))
        if isinstance(value, np.ndarray) and of_numbers is not None:
            return numbers_of(of_numbers(list(value.reshape(-1))), (1,) * value.ndim if keep else ())
        x = as_tensor(value, call)
        if axes is None:
            if call.attribute("noop_with_empty_axes", 0):
                return x
            axes = list(range(x.ndim))
        return function(x, tuple(int(axis) for axis in axes), keep)

    return call


def _product(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    for axis in sorted((axis % x.ndim for axis in axes), reverse=True):
        x = torch.prod(x, axis, keepdim=keep)
    return x


def _arg(function: Callable[..., Tensor]) -> Operator:
    def call(call: Call) -> Tensor:
        if call.attribute("select_last_index", 0):
            raise call.node.refused("it selects the last of equal entries")
        return function(call.tensor(), dim=call.attribute("axis", 0), keepdim=bool(call.attribute("keepdims", 1)))

    return call


def _topk(call: Call) -> tuple[Tensor, Tensor]:
    k = call.number("k", 1)
    largest, ordered = bool(call.attribute("largest", 1)), bool(call.attribute("sorted", 1))
    values, places = torch.topk(call.tensor(), int(k), call.attribute("axis", -1), largest, ordered)
    return values, places


def _einsum(call: Call) -> Tensor:
    return torch.einsum(call.attribute("equation"), *(call.tensor(i) for i in range(len(call.values))))


OPERATORS: dict[str, Operator] = {
    "Add": _binary(operator.add),
    "Sub": _binary(operator.sub),
    "Mul": _binary(operator.mul),
    "Div": _binary(_divided, _sizes_divided),
    "Pow": _binary(operator.pow),
    "Mod": _binary(lambda a, b: a % b),
    "Equal": _binary(lambda a, b: a == b),
    "Greater": _binary(operator.gt),
    "GreaterOrEqual": _binary(operator.ge),
    "Less": _binary(operator.lt),
    "LessOrEqual": _binary(operator.le),
    "And": _binary(operator.and_),
    "Or": _binary(operator.or_),
    "Xor": _binary(operator.xor),
    "MatMul": _binary(torch.matmul),
    "Min": _several(torch.minimum, min),
    "Max": _several(torch.maximum, max),
    "Sum": _several(operator.add, operator.add),
    "Mean": _mean,
    "Abs": _unary(torch.abs, abs),
    "Neg": _unary(torch.neg, operator.neg),
    "Not": _unary(torch.logical_not, operator.not_),
    "Sqrt": _unary(torch.sqrt, math.sqrt),
    "Floor": _unary(torch.floor, math.floor),
    "Ceil": _unary(torch.ceil, math.ceil),
    "Round": _unary(torch.round, round),
    "Exp": _unary(torch.exp),
    "Log": _unary(torch.log),
    "Erf": _unary(torch.erf),
    "Sign": _unary(torch.sign),
    "Sin": _unary(torch.sin),
    "Cos": _unary(torch.cos),
    "Reciprocal": _unary(torch.reciprocal, lambda value: 1 / value),
    "Relu": _unary(F.relu),
    "Sigmoid": _unary(torch.sigmoid),
    "Tanh": _unary(torch.tanh),
    "Softplus": _unary(F.softplus),
    "Softsign": _unary(F.softsign),
    "HardSwish": _unary(F.hardswish),
    "Mish": _unary(F.mish),
    "Identity": lambda call: call.values[0],
    "Dropout": lambda call: call.values[0],
    "LeakyRelu": lambda call: F.leaky_relu(call.tensor(), call.attribute("alpha", 0.01)),
    "Elu": lambda call: F.elu(call.tensor(), call.attribute("alpha", 1.0)),
    "Celu": lambda call: F.celu(call.tensor(), call.attribute("alpha", 1.0)),
    "Selu": lambda call: F.selu(call.tensor()),
    "Gelu": lambda call: F.gelu(call.tensor(), approximate=call.attribute("approximate", "none")),
    "HardSigmoid": lambda call: torch.clamp(
        call.tensor() * call.attribute("alpha", 0.2) + call.attribute("beta", 0.5), 0.0, 1.0
    ),
    "ThresholdedRelu": lambda call: F.threshold(call.tensor(), call.attribute("alpha", 1.0), 0.0),
    "Clip": _clip,
    "Where": _where,
    "Cast": _cast,
    "Softmax": _softmax(F.softmax),
    "LogSoftmax": _softmax(F.log_softmax),
    "ReduceMean": _reduced(torch.mean),
    "ReduceSum": _reduced(torch.sum, sum),
    "ReduceMax": _reduced(torch.amax, max),
    "ReduceMin": _reduced(torch.amin, min),
    "ReduceProd": _reduced(_product, math.prod),
    "ReduceL1": _reduced(lambda x, axes, keep: x.abs().sum(axes, keep)),
    "ReduceL2": _reduced(lambda x, axes, keep: x.square().sum(axes, keep).sqrt()),
    "ReduceSumSquare": _reduced(lambda x, axes, keep: x.square().sum(axes, keep)),
    "ArgMax": _arg(torch.argmax),
    "ArgMin": _arg(torch.argmin),
    "TopK": _topk,
    "Einsum": _einsum,
}
"""What a node without weights of its own computes, by its operator."""
