"""What `inspect --method` shows: the operations that a sparse method leaves of each layer."""

from __future__ import annotations

import math
from typing import Any

import typer
from torch import nn

from campfire_fx.cost import Work, count_flops, mask_densities, swat_densities, work_of
from campfire_fx.cost.densities import Density
from campfire_fx.report.flops import FlopReport
from campfire_fx.training.sparsify import sparsify

_SPOKEN = {"swat": "swat-u"}


def method_shares(method: str | None, sparsity: float | None, dense_overhead: float | None) -> tuple[float, float]:
    """Return the numbers of a method, checked; those that are not given are the usual ones.

    Raises:
        typer.BadParameter: a number is out of range, or belongs to no method.
    """
    for option, value, most in (("--sparsity", sparsity, 1.0), ("--dense-overhead", dense_overhead, math.inf)):
        if value is None:
            continue
        if method is None:
            raise typer.BadParameter(f"{option} {value:g}: it only applies to a sparse method. Add --method.")
        if not 0 <= value < most:
            raise typer.BadParameter(f"{option} {value:g}: it is outside [0, {most:g}). Give another.")
    return 0.7 if sparsity is None else sparsity, dense_overhead or 0.0


def flop_report(  # each of them is an option of the command
    network: nn.Module,
    inputs: tuple[tuple[Any, ...], dict[str, Any]],
    method: str,
    sparsity: float,
    dense_overhead: float,
) -> FlopReport:
    """Count what a method computes for one sample.

    Args:
        network: the dense model.
        inputs: positional and named, of one sample.
        method: "swat-u" ("swat"), "swat-erk", "swat-structured", or a regime of `sparsify`, whose masks are made.
        sparsity: that is asked of it, in [0, 1).
        dense_overhead: see `count_flops`.
    """
    name = _SPOKEN.get(method, method)
    work = work_of(network, *inputs)
    densities = _densities(network, inputs, work, name, sparsity)
    flops = count_flops(work, densities, dense_overhead=dense_overhead)
    return FlopReport(f"{name} at {100 * sparsity:g} %", flops)


def _densities(
    network: nn.Module, inputs: tuple[tuple[Any, ...], dict[str, Any]], work: Work, method: str, sparsity: float
) -> dict[str, Density]:
    if method.startswith("swat-"):
        return swat_densities(method, sparsity, work.layers)
    sparse = sparsify(network, method, sparsity=sparsity, example_inputs=inputs[1] or inputs[0])
    return mask_densities(sparse.finalize())
