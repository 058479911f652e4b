"""Draw the picture of the README: a ResNet-18 before and after, from a shrink that is done and measured here.

    python tools/readme_picture.py            # docs/pictures/resnet18.svg

Weights are torch's random ones: the picture shows sizes and times, not accuracy. The numbers under the picture are
printed, too. Needs the extras `train` and `plot`.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import campfire_fx  # noqa: E402
from campfire_fx.cost.measure import latencies, macs, parameters  # noqa: E402
from campfire_fx.report.pictures.canvas import INK, PALE, SLIM  # noqa: E402

PICTURE = ROOT / "docs" / "pictures" / "resnet18.svg"
EDGE = "#A6A6A6"


@dataclass(frozen=True)
class Measured:
    """One quantity of both networks, and how it is written."""

    name: str
    before: float
    after: float
    unit: str

    @property
    def told(self) -> str:
        return f"{self.before:.1f} to {self.after:.1f} {self.unit}"


def main() -> int:
    """Shrink, measure and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=PICTURE)
    parser.add_argument("--size", type=int, default=224, help="of the image, in pixels")
    parser.add_argument("--repeats", type=int, default=15, help="calls that are timed")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    dense = torchvision.models.resnet18().eval()
    x = torch.randn(1, 3, options.size, options.size)
    sparse = campfire_fx.sparsify(dense, "channel", target={"macs": 0.5}, example_inputs=x)
    slim = sparse.finalize().eval().shrink()
    facts = measure(dense, slim, x, options.repeats)
    for fact in facts:
        print(f"{fact.name}: {fact.told}, {fact.after / fact.before:.2f}")
    assert slim.verification is not None  # it is asked for by default
    difference = slim.verification.difference
    print(f"largest difference of outputs: {difference:.1e}")
    draw(slim, facts, difference, options.output)
    print(f"{options.output}: written")
    return 0


def measure(dense: torch.nn.Module, slim: torch.nn.Module, x: torch.Tensor, repeats: int) -> list[Measured]:
    """Count and time both networks, in turns."""
    times = latencies({"dense": dense, "slim": slim}, (x,), repeats=repeats)
    return [
        Measured("parameters", parameters(dense) / 1e6, parameters(slim) / 1e6, "million"),
        Measured("multiply-accumulates", macs(dense, (x,)).total / 1e9, macs(slim, (x,)).total / 1e9, "billion"),
        Measured("time of one image", times["dense"].median_ms, times["slim"].median_ms, "ms, one thread"),
    ]


def draw(slim: Any, facts: list[Measured], difference: float, path: Path) -> None:
    """Draw the channels of each convolution on the left, and what that saves on the right."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "campfire_fx"  # the same picture is the same file
    drawn = Figure(figsize=(10, 3.4), layout="constrained", facecolor="white")
    left, right = drawn.subplots(1, 2, width_ratios=[1.5, 1])
    layers = [layer for layer in slim.plan.layers if layer.name != "fc"]
    before, after = zip(*(layer.outputs for layer in layers), strict=True)
    left.bar(range(len(layers)), before, color=PALE, edgecolor=EDGE, linewidth=0.6, label="before")
    left.bar(range(len(layers)), after, color=SLIM, label="after")
    left.set_title("Channels of each convolution of a ResNet-18", loc="left", fontsize=11, color=INK)
    left.set_xlabel("convolutions, from the input on", fontsize=9, color=INK)
    left.set_xticks([])
    left.legend(frameon=False, fontsize=9, loc="upper left")
    shares = [fact.after / fact.before for fact in facts]
    rows = range(len(facts))
    right.barh(rows, [1.0] * len(facts), height=0.42, color=PALE, edgecolor=EDGE, linewidth=0.6)
    right.barh(rows, shares, height=0.42, color=SLIM)
    for row, fact in enumerate(facts):
        right.text(0, row - 0.3, f"{fact.name}: {fact.told}", fontsize=9.5, color=INK, va="bottom")
    right.set_title(f"The same output: they differ by {difference:.0e}", loc="left", fontsize=11, color=INK)
    right.set_ylim(len(facts) - 0.5, -0.75)
    right.axis("off")
    for side in ("top", "right"):
        left.spines[side].set_visible(False)
    left.tick_params(labelsize=8.5, colors=INK)
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(path, metadata={"Date": None, "Creator": None} if path.suffix == ".svg" else None, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
