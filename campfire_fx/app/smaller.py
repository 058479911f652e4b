"""One network in, a smaller one out: what zeros have made dead goes; before that, to a target, whole channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from campfire_fx.app.libraries.ultralytics import Detector, open_detector, write_detector
from campfire_fx.base.copies import private_copy
from campfire_fx.base.errors import ExportError, TrainError
from campfire_fx.export import ExportRecord
from campfire_fx.export.agreement import TOLERANCES
from campfire_fx.layers.bake_masks import baked_copy
from campfire_fx.shrink.own_class import in_own_class
from campfire_fx.shrink.slim import SlimModel, shrink
from campfire_fx.shrink.verify import relative_difference
from campfire_fx.training.model import SparseModel
from campfire_fx.training.sparsify import sparsify


@dataclass(frozen=True, slots=True, eq=False)
class Smaller:
    """A network, and what became of it.

    Attributes:
        network: as it was given.
        zeroed: the same with the zeros that a target asks for; `network` itself where there is none.
        slim: computes what `zeroed` computes.
        moved: how far the output is from that of `network`, relative to its largest entry, on random inputs; None: it
            is the same, since there was no target.
    """

    network: nn.Module
    zeroed: nn.Module
    slim: SlimModel
    moved: float | None = None


def made_smaller(network: nn.Module, inputs: Any, choices: Mapping[str, Any], cut: Mapping[str, Any]) -> Smaller:
    """Shrink a network.

    Args:
        network: any, with zeros or without.
        inputs: examples, as `shrink` takes them.
        choices: other arguments of `shrink`.
        cut: arguments of `sparsify` for the regime "channel", a target among them: channels are removed at once.

    Raises:
        CampfireError: as `shrink` and `sparsify`.
    """
    if not cut:
        if isinstance(network, SparseModel):
            return Smaller(network, network, network.finalize().shrink(**choices))
        return Smaller(network, network, shrink(network, inputs, **choices))
    if isinstance(network, SparseModel):
        raise TrainError("--target: the network is sparse already. Give a dense one, or leave --target out.")
    sparse = sparsify(network, "channel", example_inputs=inputs, **cut).finalize()
    zeroed, (args, kwargs) = _with_zeros(network, sparse), sparse.example
    slim = shrink(zeroed, kwargs or args, **choices)
    return Smaller(network, zeroed, slim, relative_difference(network, slim, args, kwargs))


def put_back(smaller: Smaller, detector: Detector, path: Path) -> ExportRecord:
    """Write a slim detector as a file of ultralytics, read it again and compare.

    Raises:
        ExportError: what was written computes something else.
        ShrinkError: the code of the model would have to change in more than single modules.
    """
    own = in_own_class(smaller.slim, smaller.zeroed).model.eval()
    write_detector(own, detector, path)
    apart = relative_difference(own, open_detector(path, trust=True).network, *smaller.slim.example)
    if not apart <= TOLERANCES[detector.dtype]:
        path.unlink(missing_ok=True)
        raise ExportError(f"{path}: the file written gives other outputs, by {apart:.1e}. Please report it.")
    return ExportRecord(path, "pt", path.stat().st_size, apart, (path,))


@torch.no_grad()
def _with_zeros(network: nn.Module, sparse: SparseModel) -> nn.Module:
    """Return a copy of a network, of its own class, with the weights of a sparse model that was made of it."""
    plain, copied = baked_copy(sparse), private_copy(network)
    held = dict([*plain.named_parameters(remove_duplicate=False), *plain.named_buffers(remove_duplicate=False)])
    for name, tensor in [*copied.named_parameters(), *copied.named_buffers()]:
        if name in held:
            tensor.copy_(held[name])
    return copied
