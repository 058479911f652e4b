"""The public purify: a copy of a model without what holds next to nothing, and how far its output moved."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from campfire_fx.analysis.facts import Facts
from campfire_fx.base.compat import pytree
from campfire_fx.base.errors import ShrinkError
from campfire_fx.base.records import Record
from campfire_fx.capture import example_for, model_of, trace
from campfire_fx.layers.bake_masks import baked_copy
from campfire_fx.layers.bake_reparametrizations import bake_reparametrizations
from campfire_fx.layers.masked import MaskedLayer
from campfire_fx.passes.purify import PurifiedLayer, Thresholds, shares
from campfire_fx.passes.purify import purify as zero_small
from campfire_fx.passes.runner import run
from campfire_fx.shrink.copies import private_copy
from campfire_fx.shrink.verify import relative_difference
from campfire_fx.training.model import SparseModel

if TYPE_CHECKING:
    from campfire_fx.report.purification import PurificationReport


@dataclass(frozen=True, slots=True)
class Purification(Record):
    """What `purify` returns.

    Attributes:
        model: the purified copy; a SparseModel if a SparseModel was given.
        layers: every convolution that was looked at, in the model's order.
        difference: largest absolute change of the output on the examples, relative to its largest magnitude.
        thresholds: that it was done with.
    """

    model: nn.Module
    layers: tuple[PurifiedLayer, ...]
    difference: float
    thresholds: Thresholds

    def report(self) -> PurificationReport:
        """Return what was set to zero in each layer; print it with rich or `print`."""
        from campfire_fx.report.purification import PurificationReport  # slow to load

        return PurificationReport(self.layers, self.difference, self.thresholds)


@torch.inference_mode(mode=False)
def purify(
    model: nn.Module,
    example_inputs: Any = None,
    *,
    column: float = 0.0,
    channel: float = 0.0,
    emptiness: float = 1.0,
    layers: Sequence[str] | None = None,
) -> Purification:
    """Return a copy of a model in which columns and channels with tiny weights are zero. This changes the output.

    StructADMM's network purification; for the exact part, unused paths, `shrink` the copy. Train on before that, to
    repair what was lost: masks of a SparseModel keep what went at zero. Thresholds are relative to the root mean
    square of the norms of what lives in the layer. The paper's are not known: none is a default, so give one.

    Args:
        model: with zeros in it; a SparseModel's masks must be final. It is left as it was.
        example_inputs: what the change of the output is measured on: a tensor, a tuple of positional or a dict of
            keyword arguments; real images tell most. Random numbers of a guessed shape where None.
        column: zero the GEMM columns W[:, c, r, s] whose L2 norm is below this share, in [0, 1).
        channel: zero the input channels W[:, c] whose norm is below this share.
        emptiness: zero the input channels of whose columns at least this share is zero, in (0, 1].
        layers: patterns of paths ("layer4.*"); None: the convolutions that hold a zero weight.

    Raises:
        ShrinkError: a threshold is out of range, none is given, no layer is meant, or masks still move.
        CaptureError: the model cannot be captured.
    """
    thresholds = _checked(Thresholds(column, channel, emptiness))
    model = model_of(model)
    sparse = model if isinstance(model, SparseModel) else None
    if sparse is not None and not sparse.sparsity().frozen:
        raise ShrinkError("purify: the pruning era is not over, masks still move. Call finalize() first.")
    carried = list(sparse.examples) if sparse is not None else []
    args, kwargs = carried[0] if carried and example_inputs is None else example_for(model, example_inputs)
    result = copy.deepcopy(sparse) if sparse is not None else private_copy(model)
    bake_reparametrizations(result)
    plain = baked_copy(result) if isinstance(result, SparseModel) else result  # over the same parameters
    captured = trace(plain, examples=[k or a for a, k in carried or [(args, kwargs)]], compiled=False)
    found = run(Facts(captured), [zero_small.given(thresholds=thresholds, layers=layers)]).done
    if not found:
        raise ShrinkError(
            f"purify: no convolution {'holds a zero weight' if layers is None else f'has a path like {list(layers)}'}. "
            "Name the layers that are meant, as layers=['layer4.*']."
        )
    if isinstance(result, SparseModel):
        _mask(result, model)
    if example_inputs is None:
        args, kwargs = pytree.tree_map_only(Tensor, _random, (args, kwargs))
    return Purification(result, found, relative_difference(model, result, args, kwargs), thresholds)


def _checked(thresholds: Thresholds) -> Thresholds:
    for name, value in shares(thresholds).items():
        inside = isinstance(value, (int, float)) and (0 < value <= 1 if name == "emptiness" else 0 <= value < 1)
        if not inside:
            span = "(0, 1]" if name == "emptiness" else "[0, 1)"
            raise ShrinkError(f"purify: {name}={value!r} is outside {span}. Give a share, as 0.1.")
    if thresholds == Thresholds():
        raise ShrinkError("purify: no threshold was given, so nothing would change. Give one, as column=0.1.")
    return thresholds


def _mask(result: SparseModel, before: nn.Module) -> None:
    """Put what became zero under the masks, so that training keeps it there."""
    for path, layer in list(result.named_modules()):
        if isinstance(layer, MaskedLayer):
            gone = (layer.weight.detach() == 0) & (before.get_parameter(f"{path}.weight").detach() != 0)
            if bool(gone.any()):
                result.set_mask(path, layer.mask & ~gone)


def _random(value: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(value.shape, generator=generator).to(value) if value.is_floating_point() else value
