"""Slice every parameter and buffer to the channels that stay; fold and merge the constants that went."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from campfire_fx.analysis.compact import kept_indices, select
from campfire_fx.analysis.constants import bias_of, folded
from campfire_fx.analysis.edits.cuts import Cuts, TensorCut, gather, like
from campfire_fx.analysis.edits.plan import exchange, set_argument
from campfire_fx.analysis.facts import Facts
from campfire_fx.analysis.labelling import GraphRun, Labelling
from campfire_fx.analysis.liveness import Liveness
from campfire_fx.analysis.reader import Reader
from campfire_fx.analysis.rules.structure import MixCall
from campfire_fx.passes.runner import Result, graph_pass, removal_decided


@graph_pass(requires=(removal_decided,))
def shrink_channels(facts: Facts) -> Result:
    """Cut all tensors of the captured model, in its modules; `removal.cuts` is then how."""
    labelling, live, cuts = facts.labelling, facts.decided.live, facts.decided.cuts
    structure = labelling.structure
    with torch.no_grad():
        kept: dict[int, tuple[Tensor | None, ...]] = {}  # what norms and biases of the same channels keep, found once
        for tensor, labels in structure.tensors.values():
            key = id(labels.labels)
            kept[key] = kept.get(key) or kept_indices(labels.labels, live)
            _cut_plain(cuts, tensor, kept[key])
        readers = [reader for reader in live.readers if not reader.mixer.virtual]
        for reader in readers:
            _cut_weight(cuts, reader, live)
        for bias, outputs in structure.biases.values():
            _cut_plain(cuts, bias, kept_indices(outputs, live))
        for reader in readers:
            _add_folds(labelling, cuts, reader, live)
    exchange(labelling.captured.module, {key: cut.new for key, cut in cuts.tensors.items()})
    counted = False
    for module, name, counts in structure.sizes.values():
        count = int(live.keeps(counts).expand(counts.shape).sum())
        counted |= getattr(module, name) != count
        setattr(module, name, count)
    _count_held(labelling, cuts)
    for reader in readers:
        _set_groups(cuts, reader)
    return Result(counted or bool(cuts.tensors or cuts.folded))


_COUNTED = {
    "num_features": ("running_mean", 0), "num_channels": ("weight", 0), "num_parameters": ("weight", 0),
    "out_features": ("weight", 0), "in_features": ("weight", 1),
    "out_channels": ("weight", 0), "in_channels": ("weight", 1),
}  # fmt: skip
"""Numbers that torch's layers say of a tensor: which, and of which axis."""


def _count_held(labelling: Labelling, cuts: Cuts) -> None:
    """Let layers that only hold their tensors (their subclass computes by itself) say how large these are now."""
    new = {id(cut.new) for cut in cuts.tensors.values()}
    for module in labelling.captured.module.modules():
        if getattr(module, "groups", 1) != 1 or getattr(module, "transposed", False):
            continue
        for name, (tensor, axis) in _COUNTED.items():
            told = isinstance(module.__dict__.get(name), int) and (id(module), name) not in labelling.structure.sizes
            held: object = getattr(module, tensor, None) if told else None
            if isinstance(held, Tensor) and id(held) in new and held.ndim > axis:
                setattr(module, name, held.shape[axis])


def _cut_plain(cuts: Cuts, tensor: Tensor, keep: tuple[Tensor | None, ...]) -> None:
    if any(indices is not None for indices in keep):
        new = select(tensor.detach(), keep)
        cuts.tensors[id(tensor)] = TensorCut(tensor, like(tensor, new), keep)


def _cut_weight(cuts: Cuts, reader: Reader, live: Liveness) -> None:
    """Keep the live kernels; add merged constants to those of the channel that was kept for them."""
    mixer, weight = reader.mixer, reader.mixer.weight
    inputs, outputs = live.alive[reader.inputs], live.alive[reader.outputs]
    merges = live.merges.get(id(weight), [])
    if inputs.all() and outputs.all() and not merges:
        return
    layout = mixer.layout
    if layout.groups == 1:
        keep: list[Tensor | None] = [None] * weight.ndim
        keep[layout.out_axis], keep[layout.in_axis] = _index(outputs[0]), _index(inputs[0])
        new = select(weight.detach(), keep).contiguous()
        cut = TensorCut(weight, like(weight, new), tuple(keep), reader)
    else:
        groups = (inputs.any(1) | outputs.any(1)).nonzero().flatten()
        if not groups.numel():  # nothing reads it: its calls go too
            cuts.tensors[id(weight)] = TensorCut(weight, like(weight, weight.detach()[:0, :0]), (groups, groups))
            return
        grouped = (groups, _per_group(outputs[groups]), _per_group(inputs[groups]))
        cut = TensorCut(weight, weight, (None,) * weight.ndim, reader, grouped)
        cut.new = like(weight, layout.weight(gather(layout.kernels(weight.detach()), *grouped), weight))
    if merges:
        cuts.merged[id(weight)] = _merge(reader, live, merges, cut)
    cuts.tensors[id(weight)] = cut


def _index(kept: Tensor) -> Tensor | None:
    return None if kept.all() else kept.nonzero().flatten()


def _per_group(kept: Tensor) -> Tensor:
    """Return kept positions per group, (groups, count): the counts are equal."""
    return kept.nonzero()[:, 1].view(kept.shape[0], -1)


def _merge(reader: Reader, live: Liveness, merges: list[tuple[int, int]], cut: TensorCut) -> int:
    """Add (c_i / c_kept) W[:, i] to the kernels of the kept channel, for every dead constant i of its group.

    Computed in float64, and only for the outputs that stay; written into the cut weight. Returns how many constants.
    """
    groups, channels = np.array(merges).T
    alive, layout = live.alive.numpy(), reader.mixer.layout
    inputs, outputs = alive[reader.inputs.numpy()], alive[reader.outputs.numpy()]
    constants = reader.merged(live.alive)
    assert constants is not None
    dead = constants.numpy()[groups] & ~inputs[groups]
    value = reader.constant.double().numpy()[groups]
    ratio = np.where(dead, value / np.take_along_axis(value, channels[:, None], 1), 0.0)
    rows, columns = outputs[groups], np.flatnonzero(dead.any(0))
    kernels = layout.kernels(reader.mixer.weight.detach())
    if layout.groups > 1:
        kernels = select(kernels, (torch.from_numpy(groups),))
    else:  # large: look only at what counts
        kernels = select(kernels, (None, _index(live.alive[reader.outputs[0]]), torch.from_numpy(columns)))
        ratio, rows = ratio[:, columns], rows[:, rows[0]]
    moved = torch.from_numpy(ratio)[:, None, None].to(kernels.device) @ kernels.double()  # (groups, K/G, 1, taps)
    stays = inputs.any(1) | outputs.any(1)
    new = replace(layout, groups=int(stays.sum())).kernels(cut.new.detach())
    moved = moved[torch.from_numpy(rows)].view(groups.size, -1, moved.shape[-1])
    place = (stays.cumsum() - 1)[groups, None]
    column = (inputs.cumsum(1) - 1)[groups, channels][:, None]
    spot = (torch.from_numpy(place), torch.arange(new.shape[1]), torch.from_numpy(column))
    new[spot] = (new[spot].double() + moved).to(new.dtype)
    return int(dead.sum())


def _add_folds(labelling: Labelling, cuts: Cuts, reader: Reader, live: Liveness) -> None:
    """Add the effect of dead constants to the bias of their reader; without zero padding that is exact."""
    if reader.padded:
        return
    dead = ~live.alive.numpy()[reader.inputs.numpy()] & reader.foldable.numpy()
    if not dead.any():
        return
    gone = torch.from_numpy(dead & reader.read_by_live(live.alive).numpy()) & (reader.constant != 0)
    if not gone.any():
        return
    mixer = reader.mixer
    value = reader.constant.masked_fill(~gone, 0.0)
    amount = folded(mixer, value.flatten()).to(mixer.weight)
    amount = amount[live.alive[reader.outputs].flatten()]
    cuts.folded[id(mixer.weight)] = int(gone.sum())
    done: set[int] = set()
    for call in mixer.calls:
        _add_bias(labelling, cuts, call, mixer.name, amount, done)


def _add_bias(labelling: Labelling, cuts: Cuts, call: MixCall, name: str, amount: Tensor, done: set[int]) -> None:
    """Add to the bias that a call uses, once per bias; make one where there is none."""
    bias = bias_of(call)
    if bias is not None:
        if id(bias) not in done:
            known = cuts.tensors.setdefault(id(bias), TensorCut(bias, like(bias, bias.detach().clone()), (None,)))
            known.new.data += amount
        done.add(id(bias))
    elif call.module is not None:
        made = nn.Parameter(amount.clone())
        call.module.register_parameter("bias", made)
        done.add(id(made))  # the module's other calls find it there
    else:
        _add_after(labelling.runs[call.graph], call, name, amount)


def _add_after(run: GraphRun, call: MixCall, name: str, amount: Tensor) -> None:
    """Put the folded bias of a functional call into the graph, as an addition after it."""
    target = f"{name.replace('.', '_')}_folded_bias"
    if not hasattr(run.module, target):
        shape = [1] * len(run.values[call.node].shape)
        shape[call.out_dim] = amount.numel()
        run.module.register_parameter(target, nn.Parameter(amount.view(shape).clone()))
    graph = call.node.graph
    with graph.inserting_after(call.node):
        held = graph.get_attr(target)
    with graph.inserting_after(held):
        total = graph.call_function(torch.add, (call.node, held))
    call.node.replace_all_uses_with(total, delete_user_cb=lambda user: user is not total)


def _set_groups(cuts: Cuts, reader: Reader) -> None:
    """Tell every call of a grouped weight how many groups are left."""
    cut = cuts.tensors.get(id(reader.mixer.weight))
    if cut is None or cut.grouped is None:
        return
    groups = cut.grouped[0].numel()
    for call in reader.mixer.calls:
        if call.module is not None:
            call.module.groups = groups  # type: ignore[assignment]
        else:
            set_argument(call.node, 6, "groups", groups)
