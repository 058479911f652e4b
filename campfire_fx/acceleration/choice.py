"""Which form a layer gets: every form that may pay is timed on the example's shapes, and compared with the layer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from campfire_fx.acceleration.forms import DENSE, forms_of
from campfire_fx.acceleration.sites import Site
from campfire_fx.base.comparison import gap_and_scale
from campfire_fx.base.copies import private_copy
from campfire_fx.base.timing import in_turns
from campfire_fx.cost.acceleration_record import FormTime, LayerChoice
from campfire_fx.layers.fused import finished

MARGIN = 0.03
"""How much faster than as it is a layer must be in another form, as a part of its time: what timing is unsure of."""
ROUNDING = 1e-5
"""How far the output of a form may be from the layer's in float64, against the largest number that it could give."""
_LEAST, _MOST, _ENOUGH = 3, 9, 0.15  # rounds, seconds
_OUTPUTS = 19  # along each axis, of the part on which forms are compared; no multiple of a vector
_CPU = torch.device("cpu")


def choose(site: Site) -> tuple[LayerChoice, nn.Module]:
    """Return the form of a layer with what was measured, and the module that has it."""
    forms, operands = forms_of(site), site.examples()
    made, times = dict[str, nn.Module](), dict[str, FormTime]()
    for form in forms:
        module = form.make(site)
        fault = module if isinstance(module, str) else _fault(site, module, operands[0])
        if isinstance(module, str) or fault:
            times[form.name] = FormTime(form.name, reason=fault or "")
        else:
            made[form.name] = module
    if len(made) > 1:
        measured = _measured(list(made.values()), operands)
        times |= {name: FormTime(name, ms) for name, ms in zip(made, measured, strict=True)}
    ordered = tuple(times.get(form.name, FormTime(form.name)) for form in forms)
    name, reason = _fastest(ordered)
    choice = LayerChoice(
        site.path, site.operation, site.weight_shape, tuple(call.shape for call in site.calls),
        site.macs, site.zeros, site.fused, ordered, name, reason,
    )  # fmt: skip
    return choice, made[name]


def _fastest(times: Sequence[FormTime]) -> tuple[str, str]:
    """Return the form to take, and why."""
    known = {time.form: time.ms for time in times if time.ms is not None}
    if not known:
        return DENSE, "; ".join(dict.fromkeys(time.reason for time in times if time.reason))
    best = min(known, key=known.__getitem__)
    if best != DENSE and known[best] <= (1 - MARGIN) * known[DENSE]:
        return best, f"{known[DENSE] / known[best]:.2f}x as fast"
    return DENSE, "no other form is faster"


def _measured(modules: Sequence[nn.Module], operands: Sequence[tuple[Tensor, ...]]) -> list[float]:
    """Return the milliseconds that all calls take in each form."""
    runs = [partial(_call, module, operands) for module in modules]
    with torch.no_grad():
        times = in_turns(runs, _CPU, least=_LEAST, most=_MOST, enough=_ENOUGH)
    return [1e3 * min(taken) for taken in times]


def _call(module: nn.Module, operands: Sequence[tuple[Tensor, ...]]) -> None:
    for given in operands:
        module(*given)


def _fault(site: Site, module: nn.Module, operands: tuple[Tensor, ...]) -> str:
    """Compare a form with the layer in float64, on a part of the example's images; return what is wrong, or "".

    The bound is relative to what each sum adds up, |w| |x| + |b| + |r|, and not to the sum, which may cancel out.
    """
    if module is site.module:
        return ""
    x = _part(site, operands[0])
    with torch.no_grad():
        dense = private_copy(site.layer).double()
        y, parameters = dense(x.double()), list(dense.parameters())
        for parameter in parameters:
            parameter.abs_()
        residual = [torch.randn_like(y, dtype=x.dtype)] if len(operands) > 1 else []
        largest = sum((one.double().abs() for one in residual), dense(x.double().abs())).clamp(min=1e-30)
        expected = finished(y, residual[0].double() if residual else None, site.activation)
        gap, _ = gap_and_scale(expected / largest, module(x, *residual).double() / largest)
    return "" if gap <= ROUNDING else f"its output differs by {gap:.1e}"


def _part(site: Site, x: Tensor) -> Tensor:
    """Return the beginning of every axis of space of an input: what a few outputs of the layer read."""
    sizes, dilation = (getattr(site.layer, name, ()) for name in ("kernel_size", "dilation"))
    if not isinstance(sizes, tuple) or not isinstance(dilation, tuple):
        return x  # a pooling layer's may be one number
    for dim, (size, step) in enumerate(zip(sizes, dilation, strict=True), x.ndim - len(sizes)):
        x = x.narrow(dim, 0, min(x.shape[dim], (size - 1) * step + _OUTPUTS))
    return x
