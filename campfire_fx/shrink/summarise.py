"""Write down what was done, layer by layer, as a `ShrinkPlan`."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from campfire_fx.analysis.edits.cuts import Cuts, TensorCut
from campfire_fx.analysis.facts import Facts
from campfire_fx.analysis.labels import FIXED
from campfire_fx.analysis.liveness import Liveness
from campfire_fx.analysis.plan import (
    ColumnChange,
    GroupChange,
    KernelChange,
    LayerChange,
    NormChange,
    Repair,
    ShrinkPlan,
)
from campfire_fx.analysis.reader import Reader


def summarise(facts: Facts, done: Iterable[object]) -> ShrinkPlan:
    """Return the plan that was carried out, with what passes have noted."""
    structure, live, cuts = facts.labelling.structure, facts.decided.live, facts.decided.cuts
    records = tuple(done)
    keep = {
        structure.names.get(key, "?"): tuple(None if i is None else tuple(i.tolist()) for i in _indices(cut))
        for key, cut in cuts.tensors.items()
    }
    layers = tuple(_layer(reader, live, cuts) for reader in live.readers if not reader.mixer.virtual)
    return ShrinkPlan(
        layers,
        repairs=tuple(record for record in records if isinstance(record, Repair)),
        pins=(*structure.pins, *facts.decided.pins),
        keep=keep,
        kernels=tuple(record for record in records if isinstance(record, KernelChange)),
        columns=tuple(record for record in records if isinstance(record, ColumnChange)),
        guards=facts.captured.guards,
        variants=facts.captured.variants,
        norms=tuple(record for record in records if isinstance(record, NormChange)),
        groups=tuple(record for record in records if isinstance(record, GroupChange)),
    )


def _indices(cut: TensorCut) -> tuple[Tensor | None, ...]:
    """Return the kept indices per axis; of a grouped weight those within groups only where all groups agree."""
    if cut.grouped is None or cut.reader is None:
        return cut.keep
    groups, outputs, inputs = cut.grouped
    layout = cut.reader.mixer.layout
    of_axis = {layout.out_axis: outputs, layout.in_axis: inputs}
    count = cut.old.shape[0] // layout.groups
    first = (groups.unsqueeze(1) * count + of_axis[0]).flatten()
    second = of_axis[1]
    agreed = bool((second == second[:1]).all()) and second.shape[1] < cut.old.shape[1]
    keep = [first if first.numel() < cut.old.shape[0] else None, second[0] if agreed else None]
    return (*keep, *cut.keep[2:])


def _layer(reader: Reader, live: Liveness, cuts: Cuts) -> LayerChange:
    mixer, key = reader.mixer, id(reader.mixer.weight)
    after = cuts.tensors[key].new if key in cuts.tensors else mixer.weight
    inputs, outputs = (live.alive.numpy()[port.numpy()] for port in (reader.inputs, reader.outputs))
    written = reader.written.numpy()
    read = _count(reader.used.numpy() & ~reader.foldable.numpy())
    return LayerChange(
        name=mixer.name,
        operation=mixer.operation,
        weight_before=tuple(mixer.weight.shape),
        weight_after=tuple(after.shape),
        inputs=(inputs.size, _count(inputs)),
        outputs=(outputs.size, _count(outputs)),
        dead_inputs=inputs.size - read,
        dead_outputs=outputs.size - _count(written),
        folded=cuts.folded.get(key, 0),
        merged=cuts.merged.get(key, 0),
        reason=_reason(reader, ~written & outputs),
    )


def _count(mask: NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(mask))


def _reason(reader: Reader, silent: NDArray[np.bool_]) -> str:
    """Say why channels that the layer alone could do without are still there."""
    count = _count(silent)
    if not count:
        return ""
    fixed = _count(reader.outputs.numpy()[silent] == FIXED)
    return f"{count} empty, but {'pinned' if fixed == count else 'shared'}"
