"""Compare sparse-training methods on real images: same seeds, same budget, and the slim widths from scratch.

    python tools/run_comparison.py --data path/to/cifar10 --data-name "CIFAR-10 (JPEG copy)"   # the whole of it
    python tools/run_comparison.py --data path/to/cifar10 --minutes 40    # begin no run that would end later
    python tools/run_comparison.py --data path/to/cifar10 --list          # what is left, and how long it takes
    python tools/run_comparison.py --data digits --epochs 1 --seeds 0     # to see that it runs
    python tools/run_comparison.py --data path/to/cifar10 --model resnet20 --methods combined --sparsities 0.7 \\
        --output runs/comparison-resnet20

Trains dense, and every method at every sparsity, shrinks what is sparse, and trains the slim widths from scratch.
Each finished run is a JSON file in --output, with its network beside it: stop it at any moment and give the same
command again; it goes on with what is missing. The table (comparison.md, comparison.csv) and its picture (.png) are
written after each run from the runs that have finished; the table says what is missing.

The validation images are held out of the training images; the test images are looked at once, after a training.
"""

from __future__ import annotations

import argparse
import re
import shlex
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from comparison_figure import draw
from comparison_runs import DENSE, Budget, Run, attacked, execute, plan, regime_of
from comparison_tables import rows_of, to_csv, to_markdown
from pareto.setting import fewer_images
from run_files import check_same, path_of, read, told
from torch.nn import functional as F

from campfire_fx.app.train.data import ImageData, Where, open_data
from campfire_fx.app.train.recipe import PRECISIONS, Recipe, recipe_for
from campfire_fx.base.errors import CampfireError
from campfire_fx.report.pictures.canvas import installed

LEGEND = """\
- accuracy: of the test images; with several seeds their mean and its 95 % interval (Student's t).
- vs. dense: accuracy minus that of the dense runs of the same seeds, and its 95 % interval over the test images.
- FGSM: accuracy after one step of that size on raw images, against the network's own gradient; an image counts if it is
  right before, too. The slim network is attacked; it computes what the sparse one does.
- true sparsity: zeros among the weights of the layers that are pruned. Parameters, non-zero ones, multiply-accumulates
  of one image and file size are the slim network's.
- time / dense: of a batch of 64, medians of calls in turns with the dense network.
- training: wall-clock time of all epochs, with whatever else the machine did. Step and peak / dense: time and peak
  memory of a training step in the middle of the era, in turns with a dense one; the peak is above nothing: weights,
  momenta, masks and what else the method keeps are in it.
- slim from scratch: the slim widths with new weights and the same budget.
"""
METHODS = ("combined", "ck", "window", "unstructured", "2:4", "1:4")


def main() -> int:
    """Run what is missing, and write the table."""
    options = parse()
    torch.set_num_threads(options.threads)
    try:
        runs = plan(options.methods, options.sparsities, options.seeds, scratch=not options.no_scratch)
        data = fewer_images(open_data(options.data, Where(options.data_root, options.image_size)), options.images)
        recipe = recipe_for(
            options.data, epochs=options.epochs, era=options.era, batch=options.batch, precision=options.precision
        )
        name = options.data_name or Path(options.data).name
        budget = Budget(
            name, options.model, data.shape, len(data.classes), recipe, options.images, eras_of(options, recipe)
        )
        options.output.mkdir(parents=True, exist_ok=True)
        check(runs, budget, options.output)
        return work(runs, budget, data, options)
    except CampfireError as error:
        print(f"run_comparison: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped. Give the command again to go on.", file=sys.stderr)
        return 130


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits", help="digits, fashion-mnist, cifar10, or a folder of images")
    parser.add_argument("--data-root", type=Path, default=Path("data"), help="where data sets known by name lie")
    parser.add_argument("--data-name", help="what the data are called in the table (default: the folder's name)")
    parser.add_argument("--image-size", type=int, help="resize images to this side")
    parser.add_argument("--images", type=int, help="train on so many, of every class the same share (default: all)")
    parser.add_argument("--model", default="resnet8")
    parser.add_argument(
        "--methods",
        nargs="+",
        default=list(METHODS),
        help=f"regimes (default: {' '.join(METHODS)}); ck+erk: with ERK; sfp=0.5: at that sparsity alone",
    )
    parser.add_argument("--sparsities", nargs="+", type=float, default=[0.6, 0.8])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--epochs", type=int, default=12, help="of every network")
    parser.add_argument("--era", nargs=2, type=int, help="first and last epoch (default: a fifth to six tenths)")
    parser.add_argument(
        "--eras", nargs="+", default=[], metavar="METHOD=FIRST,LAST", help="another era for single methods"
    )
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="that layers compute in in training")
    parser.add_argument("--epsilons", nargs="+", type=float, default=[2.0, 4.0, 8.0], help="of FGSM, in 1/255")
    parser.add_argument("--no-scratch", action="store_true", help="leave out the slim widths from scratch")
    parser.add_argument("--output", type=Path, default=Path("runs/comparison"))
    parser.add_argument("--minutes", type=float, help="begin no run that would end after so many minutes")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--list", action="store_true", help="say what is left, and train nothing")
    options = parser.parse_args()
    if options.era is not None:
        options.era = tuple(options.era)
    return options


def eras_of(options: argparse.Namespace, recipe: Recipe) -> dict[str, tuple[int, int]]:
    """Read --eras."""
    eras = {}
    for text in options.eras:
        found = re.fullmatch(r"(.+)=(\d+),(\d+)", text)
        if found is None or not int(found[2]) < int(found[3]) <= recipe.epochs:
            raise CampfireError(f"--eras {text}: write METHOD=FIRST,LAST, as rigl=0,9, within {recipe.epochs} epochs.")
        regime_of(found[1])
        eras[found[1]] = int(found[2]), int(found[3])
    return eras


def check(runs: list[Run], budget: Budget, folder: Path) -> None:
    """Refuse a folder whose runs had another budget, data or network: they could not be compared."""
    for run in runs:
        if path_of(folder, run).exists():
            check_same(path_of(folder, run), Budget.completed(read(folder, run)["budget"]), budget.to_facts())


def work(runs: list[Run], budget: Budget, data: ImageData, options: argparse.Namespace) -> int:
    """Do the missing runs one after the other; the table is renewed after each."""
    began, folder = time.perf_counter(), options.output
    while True:
        add_attacks(runs, data, options)
        left = [run for run in runs if not path_of(folder, run).exists()]
        write_table(runs, left, budget, options)
        each = seconds_of_one(runs, budget, data, folder) if left else 0.0
        done, time_left = len(runs) - len(left), told(each * len(left))
        print(f"{done} of {len(runs)} runs done, {len(left)} left: {time_left}", flush=True)
        if options.list or not left:
            print("\n".join(run.name for run in left) if options.list else f"The table is in {folder}/comparison.md")
            return 0
        passed = time.perf_counter() - began
        if options.minutes is not None and passed + each > 60 * options.minutes:
            print(f"Stopped: {left[0].name} would end after {options.minutes:g} minutes. Give the command again.")
            return 0
        facts = execute(left[0], budget, data, folder)
        print(f"{left[0].name}: {facts['accuracy']:.2%} in {told(facts['seconds'])}", flush=True)


def add_attacks(runs: list[Run], data: ImageData, options: argparse.Namespace) -> None:
    """Attack the networks of finished runs that have not been attacked with these epsilons."""
    for run in runs:
        if path_of(options.output, run).exists():
            attacked(run, options.epsilons, data, options.output)


def seconds_of_one(runs: list[Run], budget: Budget, data: ImageData, folder: Path) -> float:
    """Expect a run to take as long as those that have finished; where none has, as a few steps tell."""
    took = [read(folder, run)["seconds"] for run in runs if path_of(folder, run).exists()]
    took = [seconds for seconds in took if seconds]
    return statistics.median(took) if took else _probed(budget, data)


def _probed(budget: Budget, data: ImageData) -> float:
    network, batch = budget.build(), min(budget.recipe.batch, len(data.train))
    times = []
    for _ in range(4):
        began = time.perf_counter()
        F.cross_entropy(network(torch.randn(batch, *budget.shape)), torch.zeros(batch).long()).backward()
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:]) * (len(data.train) // batch) * budget.recipe.epochs


def write_table(runs: list[Run], left: list[Run], budget: Budget, options: argparse.Namespace) -> None:
    """Write comparison.md, .csv and, where matplotlib is installed, .png from the runs that have finished."""
    finished = [(run, read(options.output, run)) for run in runs if run not in left]
    if not finished:
        return
    rows = rows_of(finished)
    (options.output / "comparison.csv").write_text(to_csv(rows), encoding="utf-8")
    lines = [*_setting(budget, options, finished), "", to_markdown(rows)]
    if installed():
        draw(rows, options.output / "comparison.png", f"{budget.data}, {budget.model}, {budget.recipe.epochs} epochs")
    lines.append(LEGEND)
    if left:
        lines.append(f"Missing ({len(left)} of {len(runs)} runs): {', '.join(run.name for run in left)}.\n")
    (options.output / "comparison.md").write_text("\n".join(lines), encoding="utf-8")


def _setting(budget: Budget, options: argparse.Namespace, finished: list[tuple[Run, dict[str, Any]]]) -> list[str]:
    recipe, seconds = budget.recipe, [facts["training_seconds"] for run, facts in finished if run.method == DENSE]
    hidden = {"--data": "FOLDER" if Path(options.data).is_dir() else options.data, "--output": "FOLDER"}
    words = sys.argv[1:]
    for option, stand_in in hidden.items():
        words = [stand_in if before == option else word for before, word in zip(["", *words], words, strict=False)]
    some = "" if budget.images is None else f", {budget.images:,} training images"
    others = "".join(f"; of {method} {first} to {last}" for method, (first, last) in budget.eras.items())
    setting = (
        f"{budget.data}{some} of {budget.shape[-1]} pixels, {budget.model}, {recipe.epochs} epochs of batches of"
        f" {recipe.batch}, SGD with Nesterov momentum {recipe.momentum} and weight decay {recipe.decay},"
        f" learning rate up to {recipe.rate} and down along a cosine, computed in {recipe.precision},"
        f" channels_last; pruning era {recipe.era[0]} to"
        f" {recipe.era[1]}{others}; torch {torch.__version__.split('+')[0]}, {options.threads} CPU thread(s)."
    )
    lines = [setting, "", f"    python tools/run_comparison.py {shlex.join(words)}"]
    if seconds:
        lines += ["", f"A dense training took {told(statistics.median(seconds))}."]
    return lines


if __name__ == "__main__":
    sys.exit(main())
