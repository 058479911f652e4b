"""Estimate sparse training on an accelerator, compare with SWAT's published speed-ups, and print docs/accelerator.md's.

    python tools/estimate_accelerator.py                       # all tables
    python tools/estimate_accelerator.py --rows 16 --tile 576  # another machine

Published: SWAT's NeurIPS 2020 poster (arXiv 2001.01969), cycles of a simulator, ResNet-50 on ImageNet. Masks are those
that the regimes make of the model's initial weights; no parameter was fitted to the published numbers.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import fields, replace

import torch
from accelerator import BACKWARD, FORWARD, TRAINING, Accelerator, AcceleratorEstimate, estimate, mask_bits
from load_balance import imbalance
from torch import Tensor
from torchvision import models

from campfire_fx import SparseModel, sparsify
from campfire_fx.cost import Work, work_of
from campfire_fx.layers.masked import MaskedLayer

PUBLISHED = {(0.8, "forward"): 3.3, (0.8, "backward"): 3.4, (0.9, "forward"): 5.6, (0.9, "backward"): 6.3}
PASSES = {"forward": FORWARD, "backward": BACKWARD, "training": TRAINING}
SPARSITIES = (0.8, 0.9)
VARIED = {
    "rows": (8, 16, 64),
    "columns": (16, 64),
    "tile": (36, 576),
    "scan": (4, 8, 64),
    "bandwidth_gbs": (64.0, 128.0, 512.0),
    "batch": (1, 256),
}
GRANULARITIES = {
    "window": {"regime": "window"},
    "CK, per channel": {"regime": "ck", "ck_scope": "channel"},
    "CK, per layer": {"regime": "ck"},
    "unstructured": {"regime": "unstructured"},
}
KEPT = (1, 2, 3, 4)
TILES = (9, 36, 144, 576)

Masks = Mapping[str, Tensor]
Granular = Mapping[tuple[int, str], Masks]  # weights kept of 9, granularity -> masks of the 3x3 convolutions


def main() -> None:
    """Parse the command line, and print the tables."""
    options = _options()
    torch.manual_seed(options.seed)
    torch.set_num_threads(1)
    machine = Accelerator(**{f.name: getattr(options, f.name) for f in fields(Accelerator) if f.type != "bool"})
    model = getattr(models, options.model)()
    work = work_of(model, (torch.zeros(1, 3, options.size, options.size),))
    masks = {s: masks_of(sparsify(model, "unstructured", sparsity=s).finalize()) for s in SPARSITIES}
    print(f"{options.model} at {options.size} px, seed {options.seed}; {machine}\n")
    print_speedups(work, masks, machine)
    print_variations(work, masks, machine)
    granular = {(kept, name): windowed(model, wish, kept) for kept in KEPT for name, wish in GRANULARITIES.items()}
    print_granularities(work, granular, machine)
    print_balance(granular, machine)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet50", help="a torchvision classifier")
    parser.add_argument("--size", type=int, default=224, help="of the images, in pixels")
    parser.add_argument("--seed", type=int, default=0, help="of the initial weights, which the masks are made of")
    for field in fields(Accelerator):
        if field.type != "bool":
            kind = int if field.type == "int" else float
            parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default)
    return parser.parse_args()


def masks_of(sparse: SparseModel) -> dict[str, Tensor]:
    """Return the masks of a sparse model by layer."""
    return {name: layer.mask for name, layer in sparse.named_modules() if isinstance(layer, MaskedLayer)}


def swat(work: Work, masks: Masks, sparsity: float, machine: Accelerator) -> AcceleratorEstimate:
    """Estimate SWAT-U: activations of every layer but the stem are as sparse as its weights."""
    read: dict[str, float | Tensor] = {layer.name: 1 - sparsity for layer in work.layers if not layer.stem}
    return estimate(work, masks, machine, activations=read)


def print_speedups(work: Work, masks: Mapping[float, Masks], machine: Accelerator) -> None:
    """Print the estimate against the published numbers, one effect after the other."""
    print("| sparsity | pass | ideal | + imbalance, scanning | + memory | published | estimate / published |")
    print("|---|---|---|---|---|---|---|")
    for sparsity in SPARSITIES:
        found = swat(work, masks[sparsity], sparsity, machine)
        for name, passes in PASSES.items():
            told = PUBLISHED.get((sparsity, name))
            against = "- | -" if told is None else f"{told:.1f} | {found.speedup(passes) / told:.2f}"
            print(
                f"| {sparsity:.0%} | {name} | {found.ideal_speedup(passes):.2f} | {found.compute_speedup(passes):.2f} "
                f"| {found.speedup(passes):.2f} | {against} |"
            )
    print()


def print_variations(work: Work, masks: Mapping[float, Masks], machine: Accelerator) -> None:
    """Print the same speed-ups with one parameter changed at a time."""
    print("| machine | 80 %: forward | backward | 90 %: forward | backward |")
    print("|---|---|---|---|---|")
    changed = [(name, value) for name, values in VARIED.items() for value in values]
    for name, value in [("", 0.0), *changed]:
        other = replace(machine, **{name: value}) if name else machine  # type: ignore[arg-type]
        found = [swat(work, masks[sparsity], sparsity, other) for sparsity in SPARSITIES]
        cells = [f"{it.speedup(passes):.2f}" for it in found for passes in (FORWARD, BACKWARD)]
        print(f"| {f'{name} = {value:g}' if name else 'as above'} | {' | '.join(cells)} |")
    print("| published | " + " | ".join(f"{value:.1f}" for value in PUBLISHED.values()) + " |\n")


def print_granularities(work: Work, granular: Granular, machine: Accelerator) -> None:
    """Print speed-ups of the 3x3 convolutions by granularity, at the rates that a window can have."""
    print("| kept of 9 | granularity | density | forward | of its 1 / density | input gradient | weight bytes |")
    print("|---|---|---|---|---|---|---|")
    for (kept, name), masks in granular.items():
        layers = tuple(layer for layer in work.layers if layer.name in masks)
        found = estimate(replace(work, layers=layers, other_macs=0), masks, machine)
        density = 1 / found.ideal_speedup(FORWARD)
        forward, back = found.compute_speedup(FORWARD), found.compute_speedup(("input gradient",))
        cells = (
            f"{density:.3f} | {forward:.2f} | {forward * density:.0%} | {back:.2f} | {weight_bits(masks, machine):.0%}"
        )
        print(f"| {kept} | {name} | {cells} |")
    print()


def print_balance(granular: Granular, machine: Accelerator) -> None:
    """Print the load of the fullest row against the mean one, over the 3x3 convolutions, by distance of barriers."""
    print(f"| kept of 9 | granularity | {' | '.join(f'tile {tile}' for tile in TILES)} |")
    print(f"|---|---|{'---|' * len(TILES)}")
    for (kept, name), masks in granular.items():
        cells = [f"{mean_imbalance(masks, machine.rows, tile):.2f}" for tile in TILES]
        print(f"| {kept} | {name} | {' | '.join(cells)} |")


def windowed(model: torch.nn.Module, wish: Mapping[str, str], kept: int) -> dict[str, Tensor]:
    """Return the masks of the 3x3 convolutions at the rate of `kept` weights in each kernel."""
    # Windows close one more weight than the whole part of 9 s: ask for a little less.
    sparsity = (9 - kept - 0.5) / 9 if wish["regime"] == "window" else 1 - kept / 9
    sparse = sparsify(model, sparsity=sparsity, prune_1x1=False, prune_fc=False, **wish).finalize()  # type: ignore[arg-type]
    return {name: mask for name, mask in masks_of(sparse).items() if mask.shape[2:] == (3, 3)}


def mean_imbalance(masks: Masks, rows: int, tile: int) -> float:
    """Return the imbalance of all layers together, weighted by what they keep."""
    kept = sum(int(mask.sum()) for mask in masks.values())
    return sum(imbalance(mask.flatten(2), rows, tile) * int(mask.sum()) for mask in masks.values()) / kept


def weight_bits(masks: Masks, machine: Accelerator) -> float:
    """Return what the weights take in memory, index included, as a fraction of the dense ones."""
    dense = sum(mask.numel() * machine.value_bits for mask in masks.values())
    return sum(mask_bits(mask.flatten(2), machine) for mask in masks.values()) / dense


if __name__ == "__main__":
    main()
