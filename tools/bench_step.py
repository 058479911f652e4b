"""Time a training step: dense, masked by campfire_fx, and with the same masks through torch.nn.utils.prune.

    python tools/bench_step.py                      # ResNet-50, batch 16 at 224 px
    python tools/bench_step.py --quick              # a small network, to see that it runs

The three take turns within every round, so that a machine that slows down slows all of them; each ratio is the
median of the rounds' own ratios. The optimizer is SGD with momentum and weight decay, as in the paper. Masks are the
final ones of the era: before it a step costs what the dense one costs.

On a CPU the time inside masks is taken by itself, too, in the same steps: it is small, and two steps differ by more
than that by chance. Averaged over an era it is what it is in every step, and once an epoch the moving of all masks.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from rounds import Contender, in_turns
from torch import Tensor, nn
from torch.nn.utils import prune

from campfire_fx import sparsify
from campfire_fx.app.train.recipe import PRECISIONS
from campfire_fx.layers.masked import MaskedLayer
from campfire_fx.training.life_cycle import LifeCycle

Step = Callable[[], None]


def main() -> None:
    """Parse the command line, time, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet50", help="a torchvision classifier")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=224, help="of the images, in pixels")
    parser.add_argument("--repeats", type=int, default=9, help="rounds that are timed, after one that is not")
    parser.add_argument("--regime", default="combined")
    parser.add_argument("--sparsity", type=float, default=0.7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="that layers compute in")
    parser.add_argument("--images", type=int, default=1_281_167, help="of an epoch (default: ImageNet's)")
    parser.add_argument("--quick", action="store_true", help="a small network and three rounds")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    if options.quick:
        options.model, options.batch, options.size, options.repeats = "a small network", 4, 16, 3
    images = torch.randn(options.batch, 3, options.size, options.size, device=options.device)
    labels = torch.randint(0, 10, (options.batch,), device=options.device)
    steps = variants(network(options.model).to(options.device), images, labels, options)
    with time_inside(MaskedLayer, "mask_gradient") as gradients, time_inside(LifeCycle, "after_step") as after:
        rounds = timed(steps, options.repeats, options.device)
    title = f"{options.model}, batch {options.batch} at {options.size} px, {options.regime} {options.sparsity:.0%}"
    print(f"{title}, {options.precision}, {options.device}, {options.threads} threads, {options.repeats} rounds")
    print(f"{'step':24}{'median ms':>12}{'to dense':>10}")
    for name, times in rounds.items():
        ratio = statistics.median(one / dense for one, dense in zip(times, rounds["dense"], strict=True))
        print(f"{name:24}{1e3 * statistics.median(times):12.1f}{ratio:10.4f}")
    moved = moving(network(options.model), images[:1].cpu(), options)
    print(f"masks moved (once an epoch): {1e3 * moved:.0f} ms")
    if options.device == "cpu":  # elsewhere a call returns before its work is done
        dense = statistics.median(rounds["dense"])
        masks = (sum(gradients) + sum(after)) / len(after)
        whole = masks + moved * options.batch / options.images
        print(f"inside masks: {1e3 * masks:.1f} ms a step, {masks / dense:.2%} of the dense step")
        print(f"averaged over an era of epochs of {options.images:,} images: {whole / dense:.2%}")


@contextmanager
def time_inside(owner: type, name: str) -> Iterator[list[float]]:
    """Yield a list that gets the seconds of every call of a method, while the context lasts."""
    seconds: list[float] = []
    method = getattr(owner, name)

    def timed_method(*args: object, **wishes: object) -> object:
        start = time.perf_counter()
        result = method(*args, **wishes)
        seconds.append(time.perf_counter() - start)
        return result

    setattr(owner, name, timed_method)
    try:
        yield seconds
    finally:
        setattr(owner, name, method)


def network(name: str) -> nn.Module:
    """Return a torchvision classifier, or the small network of --quick."""
    if name == "a small network":
        layers = [nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.BatchNorm2d(32)]
        return nn.Sequential(*layers, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
    import torchvision

    return torchvision.models.get_model(name, weights=None)


def variants(model: nn.Module, images: Tensor, labels: Tensor, options: argparse.Namespace) -> dict[str, Step]:
    """Return a training step of each kind, all with the same weights and the two sparse ones with the same masks."""
    sparse = sparsify(model, options.regime, sparsity=options.sparsity, example_inputs=images[:1]).finalize()
    pruned = copy.deepcopy(model)
    for name, layer in sparse.named_modules():
        if isinstance(layer, MaskedLayer) and layer.multiplier() is not None:
            prune.custom_from_mask(pruned.get_submodule(name), "weight", layer.mask)
    networks = {"dense": model, "campfire_fx": sparse, "torch.nn.utils.prune": pruned}
    optimizers = {
        name: torch.optim.SGD(one.parameters(), lr=1e-4, momentum=0.9, weight_decay=1e-4)
        for name, one in networks.items()
    }
    sparse.attach(optimizers["campfire_fx"], steps_per_epoch=1000)
    mixed = options.precision == "bfloat16"
    return {name: step(one.train(), optimizers[name], images, labels, mixed=mixed) for name, one in networks.items()}


def step(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor, *, mixed: bool) -> Step:
    """Return one step of an ordinary training loop."""

    def run() -> None:
        optimizer.zero_grad()
        with torch.autocast(images.device.type, torch.bfloat16, enabled=mixed):
            answer = model(images)
        F.cross_entropy(answer.float(), labels).backward()
        optimizer.step()

    return run


def timed(steps: dict[str, Step], repeats: int, device: str) -> dict[str, list[float]]:
    """Return the seconds of each variant in each round."""
    contenders = {name: Contender(_stepping(step)) for name, step in steps.items()}
    wait = torch.cuda.synchronize if device.startswith("cuda") else (lambda: None)
    return in_turns(contenders, repeats, synchronise=wait)


def _stepping(step: Step) -> Callable[[object], None]:
    return lambda _: step()


def moving(model: nn.Module, image: Tensor, options: argparse.Namespace) -> float:
    """Return the seconds that computing all masks takes."""
    sparse = sparsify(model, options.regime, sparsity=options.sparsity, example_inputs=image)
    start = time.perf_counter()
    sparse.finalize()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
