"""Masked layers: torch's own convolutions and linear layers, with a mask that their weight obeys.

A masked layer has no `forward` of its own. Its weight is physically zero under the mask, so it costs nothing to
run and every tool sees an ordinary layer. What keeps it so: the gradient is zeroed under the mask as it is
accumulated, and whoever steps the optimizer calls `apply_mask` afterwards (SparseModel does).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle, unserializable_hook

from campfire_fx.base.compat import buffers_of, parameters_of, writes_to
from campfire_fx.base.sharding import local, part_of
from campfire_fx.base.torch_classes import overridden
from campfire_fx.base.zeroing import selector, zero_
from campfire_fx.layers.classes import change_class
from campfire_fx.layers.layout import layout_of

_TRANSIENT = ("_factors", "_watched")
COMPUTED = "its weight is computed, not a parameter"


class MaskFactors(NamedTuple):
    """A mask as `selector` gives it, and what it was made from; both None where the mask keeps everything."""

    weight: Tensor | None
    filters: Tensor | None
    mask: weakref.ref[Tensor]
    form: tuple[object, ...]


class MaskedLayer(nn.Module):
    """What all masked layers share. Made by `mask_layer`, undone by `unmask_layer`; has no constructor of its own.

    `mask` is a bool buffer of the weight's shape, True = kept. It is part of the `state_dict`; where a
    `state_dict` has none (a dense one), the mask stays as it is and the weights loaded are masked with it.
    """

    weight: Tensor
    mask: Tensor
    _factors: MaskFactors | None = None
    _watched: dict[str, tuple[weakref.ref[Tensor], RemovableHandle]] | None = None
    carried: Mapping[str, Tensor] = MappingProxyType({})
    masks_gradient: bool = True  # or it is left as it is under the mask, for who wants to see it

    def as_filters(self, tensor: Tensor) -> Tensor:
        """View a tensor of the weight's shape as (K, C, P): filters, channels per filter, positions in a kernel."""
        return layout_of(self).filters(tensor)

    def from_filters(self, tensor: Tensor) -> Tensor:
        """Undo `as_filters`: (K, C, P) back to the weight's shape."""
        return layout_of(self).from_filters(tensor, self.weight)

    @torch.no_grad()
    def set_mask(self, mask: Tensor) -> None:
        """Take a new mask, of the weight's shape, and zero the weight and the gradient it has under it."""
        self.mask.copy_(mask)
        self.apply_mask()
        if self.masks_gradient:
            self.mask_gradient(self.weight)

    @torch.no_grad()
    def apply_mask(self) -> None:
        """Zero the weight under the mask, and see that its gradient will be."""
        multiplier = self.multiplier()
        if multiplier is not None:
            zero_(local(self.weight), multiplier)
            self.watch_gradient()

    def multiplier(self) -> Tensor | None:
        """Return the mask as `zero_` takes it, in the weight's layout; None where it keeps everything.

        Of a sharded weight it is the part for what this rank holds. Kept between calls until the mask or the
        weight's form changes.
        """
        return self._present_factors(self.weight).weight

    def live_filters(self) -> Tensor | None:
        """Return 0 for each filter that is masked whole and 1 for the others, (K,) whole numbers; None: all live."""
        known = self._factors
        if known is not None and known.mask() is self.mask and known.form[0] == writes_to(self.mask):
            return known.filters  # of whatever form the weight is now: FSDP2 gathers it for a while
        return self._present_factors(self.weight).filters

    def _present_factors(self, weight: Tensor) -> MaskFactors:
        mask, here = self.mask, local(weight)
        form = (writes_to(mask), here.dtype, here.device, here.shape, here.stride())
        if self._factors is None or self._factors.form != form or self._factors.mask() is not mask:
            self._factors = MaskFactors(*self._make_factors(weight), weakref.ref(mask), form)
        return self._factors

    @torch.no_grad()
    def _make_factors(self, weight: Tensor) -> tuple[Tensor | None, Tensor | None]:
        mask = self.mask
        if mask.is_meta or weight.is_meta or bool(mask.all()):
            return None, None
        live = self.as_filters(mask).flatten(1).any(1)
        whole = selector(part_of(mask, weight), weight)
        factor = torch.empty_like(local(weight), dtype=whole.dtype).copy_(whole)
        return factor, None if bool(live.all()) else selector(live, weight)

    @torch.no_grad()
    def mask_gradient(self, weight: Tensor) -> None:
        """Zero the gradient of a weight under the mask: of `self.weight`, or of the shard that it was gathered from."""
        multiplier = self._present_factors(weight).weight
        if multiplier is not None and weight.grad is not None:
            zero_(local(weight.grad), multiplier)

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """Register a parameter as any module does; a new weight has its gradient masked too."""
        super().register_parameter(name, param)
        if name == "weight" and "mask" in buffers_of(self) and param is not None and self.multiplier() is not None:
            self.watch_gradient()

    def watch_gradient(self) -> None:
        """Zero the gradient of the present weight whenever it has been accumulated."""
        if self.weight.requires_grad:
            self.watch("weight", self.weight, _zero_masked_gradient(weakref.ref(self)))

    def watch(self, name: str, parameter: Tensor, hook: Callable[[Tensor], None]) -> None:
        """Run a hook on a parameter's gradient when it has been accumulated; once, however often it is asked for.

        Copies, pickles and the plain layer made of this one leave it behind.
        """
        watched = {} if self._watched is None else self._watched
        if name not in watched or watched[name][0]() is not parameter:
            watched[name] = (weakref.ref(parameter), parameter.register_post_accumulate_grad_hook(hook))
        self._watched = watched

    def carry(self, **tensors: Tensor | None) -> None:
        """Keep tensors of the weight's shape beside it, in `carried`; None lets one go.

        They move with the module and are in its `state_dict`, and a sparse one that is loaded says which there are.
        Unlike buffers they may come and go in the middle of training: averages, DistributedDataParallel and compiled
        graphs, which read buffers, know nothing of them.
        """
        self.carried = {name: value for name, value in {**self.carried, **tensors}.items() if value is not None}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> MaskedLayer:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.carry(**{name: fn(value) for name, value in self.carried.items()})
        self.apply_mask()  # `to_empty` and `to` between some devices put another parameter in place
        return self

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination.update({f"{prefix}{name}": value for name, value in self.carried.items()})

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, metadata: Any, strict: bool, missing: list[str], *rest: Any
    ) -> None:
        if f"{prefix}mask" in state_dict:
            self.carried = self._carried_in(state_dict, prefix)
            known = {f"{prefix}{name}" for name in self.carried}
            state_dict = {key: value for key, value in state_dict.items() if key not in known}
        super()._load_from_state_dict(state_dict, prefix, metadata, strict, missing, *rest)
        if f"{prefix}mask" in missing:
            missing.remove(f"{prefix}mask")
        self.apply_mask()

    def _carried_in(self, state_dict: dict[str, Any], prefix: str) -> dict[str, Tensor]:
        """Return what a sparse state_dict has that is to be carried: more tensors of the weight's shape."""
        device = torch.device("cpu") if self.mask.is_meta else self.mask.device
        names = {key.removeprefix(prefix) for key in state_dict if key.startswith(prefix)} - {"weight", "bias", "mask"}
        return {
            name: torch.empty_like(value, dtype=self.weight.dtype, device=device).copy_(value)
            for name in sorted(names)
            if "." not in name and (value := state_dict[prefix + name]).shape == self.weight.shape
        }

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in _TRANSIENT}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.apply_mask()


def _zero_masked_gradient(layer: weakref.ref[MaskedLayer]) -> Callable[[Tensor], None]:
    @unserializable_hook  # type: ignore[untyped-decorator]
    def hook(weight: Tensor) -> None:
        masked = layer()
        if masked is not None and masked.masks_gradient:
            masked.mask_gradient(weight)

    return hook


def layers_sharing(model: nn.Module, layer: MaskedLayer) -> list[MaskedLayer]:
    """Return all layers of a model that have the weight of one of them, that one included."""
    return layers_by_weight(model)[id(layer.weight)]


def layers_by_weight(model: nn.Module) -> dict[int, list[MaskedLayer]]:
    """Return the masked layers of a model by the id of their weight: all that share one together."""
    found: dict[int, list[MaskedLayer]] = {}
    for module in model.modules():
        if isinstance(module, MaskedLayer):
            found.setdefault(id(module.weight), []).append(module)
    return found


class MaskedConv1d(MaskedLayer, nn.Conv1d):
    """An nn.Conv1d whose weight obeys a mask."""


class MaskedConv2d(MaskedLayer, nn.Conv2d):
    """An nn.Conv2d whose weight obeys a mask."""


class MaskedConv3d(MaskedLayer, nn.Conv3d):
    """An nn.Conv3d whose weight obeys a mask."""


class MaskedConvTranspose1d(MaskedLayer, nn.ConvTranspose1d):
    """An nn.ConvTranspose1d whose weight obeys a mask."""


class MaskedConvTranspose2d(MaskedLayer, nn.ConvTranspose2d):
    """An nn.ConvTranspose2d whose weight obeys a mask."""


class MaskedConvTranspose3d(MaskedLayer, nn.ConvTranspose3d):
    """An nn.ConvTranspose3d whose weight obeys a mask."""


class MaskedLinear(MaskedLayer, nn.Linear):
    """An nn.Linear whose weight obeys a mask."""


_MASKED: dict[type[nn.Module], type[MaskedLayer]] = {
    nn.Conv1d: MaskedConv1d,
    nn.Conv2d: MaskedConv2d,
    nn.Conv3d: MaskedConv3d,
    nn.ConvTranspose1d: MaskedConvTranspose1d,
    nn.ConvTranspose2d: MaskedConvTranspose2d,
    nn.ConvTranspose3d: MaskedConvTranspose3d,
    nn.Linear: MaskedLinear,
}
_PLAIN = {masked: plain for plain, masked in _MASKED.items()}


def plain_class(module: nn.Module) -> type[nn.Module] | None:
    """Return torch's class of a layer that can hold a mask (nn.Conv2d, ...), or None for any other module."""
    return next((plain for plain in _MASKED if isinstance(module, plain)), None)


def why_not_masked(module: nn.Module) -> str:
    """Say why a layer with a torch class cannot hold a mask; "" where it can."""
    plain = plain_class(module)
    if plain is None:
        return "it is no convolution or linear layer of torch's"
    if not isinstance(parameters_of(module).get("weight"), nn.Parameter):
        return COMPUTED
    if name := overridden(type(module), plain):
        return f"it computes its output in a {name} of its own"
    return ""


def mask_layer(module: nn.Module) -> MaskedLayer:
    """Turn a layer into a masked one in place, keeping everything: see `change_class`.

    A subclass that adds nothing to `forward` becomes the masked layer of torch's class.
    """
    if isinstance(module, MaskedLayer):
        return module
    plain = plain_class(module)
    assert plain is not None and not why_not_masked(module)
    change_class(module, {type(module): _MASKED[plain]})
    assert isinstance(module, MaskedLayer)
    module.register_buffer("mask", torch.ones_like(module.weight, dtype=torch.bool, requires_grad=False))
    return module


def unmask_layer(layer: MaskedLayer) -> nn.Module:
    """Turn a masked layer into torch's plain one in place, its weight zero where the mask says so."""
    layer.apply_mask()
    for _, handle in (layer._watched or {}).values():
        handle.remove()
    for name in (*_TRANSIENT, "carried", "masks_gradient"):
        layer.__dict__.pop(name, None)
    del buffers_of(layer)["mask"]
    change_class(layer, _PLAIN)
    return layer
