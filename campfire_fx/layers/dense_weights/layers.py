"""Layers with dense weights: masked ones that train the weights under their mask, and compute without them."""

from __future__ import annotations

import math
import weakref
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from campfire_fx.base.compat import buffers_of, output_padding, padding_ahead
from campfire_fx.base.ordering import kth_smallest
from campfire_fx.base.zeroing import selected
from campfire_fx.layers.classes import change_class
from campfire_fx.layers.dense_weights.operations import (
    ConvolutionOp,
    Operation,
    ProductOp,
    sparse_backward,
)
from campfire_fx.layers.masked import (
    MaskedConv1d,
    MaskedConv2d,
    MaskedConv3d,
    MaskedConvTranspose1d,
    MaskedConvTranspose2d,
    MaskedConvTranspose3d,
    MaskedLayer,
    MaskedLinear,
    MaskFactors,
)

_THRESHOLDS = ("weight_threshold", "input_threshold")
_SETTINGS = ("kept_inputs", "refreshing")


class DenseWeightsLayer(MaskedLayer):
    """A masked layer with dense weights. Made by `keep_dense_weights`, undone by `release_dense_weights`.

    Whatever is under the mask gets its gradient, is stepped and decayed, and can come back; the mask is the present
    choice, and somebody else's to move. In training, what is kept of the input for the backward pass is its part of
    largest magnitude, packed.

    Attributes:
        weight_threshold: () buffer, the score that the mask was last drawn at.
        input_threshold: () buffer, the smallest magnitude of the input that the weight gradient sees.
        kept_inputs: the fraction of the input that is due to reach the threshold, in (0, 1], () float64 on the CPU:
            a compiled model sees it change. None: all is kept.
        refreshing: whether the next forward pass in training computes the input's threshold anew.
    """

    weight_threshold: Tensor
    input_threshold: Tensor
    kept_inputs: Tensor | None = None
    refreshing: bool = True

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Compute as the plain layer does, with the weight under the mask."""
        return self._call(*args, **kwargs)

    def _call(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:  # noqa: A002 - torch's name
        operation, x = self._operation(autocast(input), output_size)
        if self.training and torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad):
            return self._train(operation, x)
        bias = self._bias
        weight = torch.where(self.mask, self.weight, 0)
        return operation.output(x, autocast(weight), None if bias is None else autocast(bias))

    def _operation(self, x: Tensor, output_size: list[int] | None) -> tuple[Operation, Tensor]:
        """Return what the layer computes, and the input as it takes it: padded, where zeros do not do."""
        raise NotImplementedError

    @property
    def _bias(self) -> Tensor | None:
        return cast(Any, self).bias

    def _train(self, operation: Operation, x: Tensor) -> Tensor:
        threshold = None
        if self.kept_inputs is not None:
            if self.refreshing:
                _refresh(self.input_threshold, x.detach(), self.kept_inputs)
            threshold = self.input_threshold
        return sparse_backward(operation, x, self.weight, self._bias, self.mask, threshold)

    def _present_factors(self, _weight: Tensor) -> MaskFactors:
        return MaskFactors(None, None, weakref.ref(self.mask), ())  # nothing is zeroed under the mask

    def choose_inputs(self, fraction: float | None, *, refresh: bool) -> None:
        """Say what fraction of the input the weight gradient sees (None: all), and whether its threshold is due."""
        self.refreshing = refresh
        if fraction is not None:
            if self.kept_inputs is None:
                self.kept_inputs = torch.ones((), dtype=torch.float64)
            self.kept_inputs.fill_(fraction)

    def bake_weight(self) -> None:
        """Take a weight of its own that is zero under the mask; the dense one stays with whoever else holds it."""
        self.weight = nn.Parameter(selected(self.weight.detach(), self.mask), self.weight.requires_grad)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, metadata: Any, strict: bool, missing: list[str], *rest: Any
    ) -> None:
        super()._load_from_state_dict(state_dict, prefix, metadata, strict, missing, *rest)
        for name in _THRESHOLDS:
            if f"{prefix}{name}" in missing:
                missing.remove(f"{prefix}{name}")


def autocast(tensor: Tensor) -> Tensor:
    """Return a tensor in the dtype that torch.autocast has convolutions and linear layers compute in here."""
    device = tensor.device.type
    if torch.is_autocast_enabled(device) and tensor.dtype != torch.float64:
        return tensor.to(torch.get_autocast_dtype(device))
    return tensor


def largest_kept(x: Tensor, fraction: Tensor) -> Tensor:
    """Return the smallest of the k = ceil(fraction * n) largest magnitudes of n, (); 0 where all are kept."""
    kept = count_kept(x.numel(), float(fraction))
    if kept >= x.numel():
        return x.new_zeros(())
    return kth_smallest(x.abs().flatten(), x.numel() - kept + 1)


# It writes to the threshold itself: torch 2.11 compiles a `copy_` of what was detached to nothing.
@torch.library.custom_op("campfire_fx::refresh_threshold", mutates_args={"threshold"})
def _refresh(threshold: Tensor, x: Tensor, fraction: Tensor) -> None:
    threshold.copy_(largest_kept(x, fraction))


def count_kept(size: int, fraction: float) -> int:
    """Return ceil(fraction * size), at least 1; what is a whole number but for rounding counts as one."""
    return max(1, math.ceil(fraction * size - 1e-9))


class _Spatial(DenseWeightsLayer):
    def _call(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:  # noqa: A002 - torch's name
        if input.dim() == cast(Any, self).weight.dim() - 1:  # one image without its batch axis
            return super()._call(input.unsqueeze(0), output_size).squeeze(0)
        return super()._call(input, output_size)


class _Convolving(_Spatial):
    def _operation(self, x: Tensor, _output_size: list[int] | None) -> tuple[Operation, Tensor]:
        layer = cast(Any, self)
        padding, none = layer.padding, (0,) * (x.dim() - 2)
        if layer.padding_mode != "zeros" or isinstance(padding, str):  # "same" may pad the end by one more
            mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
            x, padding = F.pad(x, padding_ahead(layer), mode=mode), none
        return ConvolutionOp(layer.stride, padding, layer.dilation, False, none, layer.groups), x


class _Transposing(_Spatial):
    def _operation(self, x: Tensor, output_size: list[int] | None) -> tuple[Operation, Tensor]:
        layer = cast(Any, self)
        settings = (layer.stride, layer.padding, layer.kernel_size, x.dim() - 2, layer.dilation)
        added = output_padding(layer, x, output_size, *settings)
        return ConvolutionOp(layer.stride, layer.padding, layer.dilation, True, tuple(added), layer.groups), x


class DenseWeightsConv1d(_Convolving, MaskedConv1d):
    """An nn.Conv1d with dense weights."""


class DenseWeightsConv2d(_Convolving, MaskedConv2d):
    """An nn.Conv2d with dense weights."""


class DenseWeightsConv3d(_Convolving, MaskedConv3d):
    """An nn.Conv3d with dense weights."""


class DenseWeightsConvTranspose1d(_Transposing, MaskedConvTranspose1d):
    """An nn.ConvTranspose1d with dense weights."""


class DenseWeightsConvTranspose2d(_Transposing, MaskedConvTranspose2d):
    """An nn.ConvTranspose2d with dense weights."""


class DenseWeightsConvTranspose3d(_Transposing, MaskedConvTranspose3d):
    """An nn.ConvTranspose3d with dense weights."""


class DenseWeightsLinear(DenseWeightsLayer, MaskedLinear):
    """An nn.Linear with dense weights."""

    def _operation(self, x: Tensor, _output_size: list[int] | None) -> tuple[Operation, Tensor]:
        return ProductOp(), x


_DENSE: dict[type[MaskedLayer], type[DenseWeightsLayer]] = {
    MaskedConv1d: DenseWeightsConv1d,
    MaskedConv2d: DenseWeightsConv2d,
    MaskedConv3d: DenseWeightsConv3d,
    MaskedConvTranspose1d: DenseWeightsConvTranspose1d,
    MaskedConvTranspose2d: DenseWeightsConvTranspose2d,
    MaskedConvTranspose3d: DenseWeightsConvTranspose3d,
    MaskedLinear: DenseWeightsLinear,
}
_MASKED = {dense: masked for masked, dense in _DENSE.items()}


def keep_dense_weights(layer: MaskedLayer) -> DenseWeightsLayer:
    """Let a masked layer keep its weights under the mask from now on, in place."""
    if isinstance(layer, DenseWeightsLayer):
        return layer
    layer._factors = None
    change_class(layer, _DENSE)
    assert isinstance(layer, DenseWeightsLayer)
    for name in _THRESHOLDS:
        layer.register_buffer(name, torch.zeros((), dtype=layer.weight.dtype, device=layer.weight.device))
    return layer


def release_dense_weights(layer: MaskedLayer) -> None:
    """Make such a layer an ordinary masked one, in place: its weight is zero under the mask from now on."""
    if not isinstance(layer, DenseWeightsLayer):
        return
    for name in _THRESHOLDS:
        del buffers_of(layer)[name]
    for name in _SETTINGS:
        layer.__dict__.pop(name, None)
    change_class(layer, _MASKED)
    layer.set_mask(layer.mask)
