"""What a plan says of single layers besides their widths: kernels cropped, columns gathered, groups made."""

from __future__ import annotations

from collections import defaultdict

from campfire_fx.analysis.plan import ColumnChange, GroupChange, KernelChange, ShrinkPlan
from campfire_fx.report.numbers import milliseconds, shape


def layer_notes(plan: ShrinkPlan) -> defaultdict[str, list[str]]:
    """Return what else there is to say about layers, by their names."""
    notes = defaultdict(list)
    for kernel in plan.kernels:
        notes[kernel.name].append(_kernel_note(kernel))
    for change in plan.columns:
        notes[change.name].append(_column_note(change))
    for group in plan.groups:
        notes[group.name].append(_group_note(group))
    return notes


def _group_note(change: GroupChange) -> str:
    """Say what became of a convolution whose filters fall into sets."""
    times = f" ({milliseconds(change.dense_ms)} to {milliseconds(change.grouped_ms)} ms)" if change.dense_ms else ""
    if change.before == change.after:
        return f"not grouped: {change.reason}{times}"
    return f"{len(change.filters)} groups, each with {change.after} of {change.before} inputs{times}"


def _column_note(change: ColumnChange) -> str:
    """Say what became of a convolution with dead columns."""
    times = f" ({milliseconds(change.dense_ms)} to {milliseconds(change.gathered_ms)} ms)" if change.dense_ms else ""
    if change.before == change.after:
        return f"not gathered: {change.reason}{times}"
    return f"{change.after} of {change.before} columns gathered{times}"


def _kernel_note(kernel: KernelChange) -> str:
    """Say what became of a kernel with dead taps."""
    if kernel.before == kernel.after:
        return f"dead kernel positions stay: {kernel.reason}"
    apart = f", dilation {shape(kernel.dilation)}" if max(kernel.dilation) > 1 else ""
    return f"kernel {shape(kernel.before)} to {shape(kernel.after)}{apart}{', padded before' if kernel.padded else ''}"
