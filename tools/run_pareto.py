"""Accuracy over multiply-accumulates, parameters and measured time: channels, widths from scratch, Torch-Pruning.

    python tools/run_pareto.py --data path/to/cifar10 --data-name "CIFAR-10 (JPEG copy)" --images 10000
    python tools/run_pareto.py --data path/to/cifar10 --budget compute --output runs/pareto-compute
    python tools/run_pareto.py --data path/to/cifar10 --from-trained runs/pareto/dense-seed0.safetensors \\
        --methods torch-pruning/taylor/gradual --output runs/pareto-trained
    python tools/run_pareto.py --data digits --image-size 8 --epochs 1 --targets 0.5    # to see that it runs
    python tools/run_pareto.py --data path/to/cifar10 --list                            # what is left

Methods:
    dense            always trained, as what all are compared with
    uniform          the dense network with all widths multiplied by one factor, from scratch
    channel[/SCORE[/SCOPE]]             coupled channels; SCORE: flow, l1, l2, norm_scale, taylor, fpgm, at_random;
                     SCOPE: global, each-set
    channel-combined[/SCORE[/SCOPE]]    channels to the target, then window and CK to each of --sparsities
    torch-pruning/magnitude|taylor/gradual|one-shot     its group importance, all layers ranked together: to the shares
                     of `channel` at every epoch of the era, or at once in the middle of the training
    filter, combined, ...               any other regime, at --sparsities
A regime trains under masks, and with +reconfigure behind it in a smaller network from every epoch of the era on.

All runs of a folder see the same images in the same order, and have the same budget: so many epochs, or with
`--budget compute` so many that the multiply-accumulates of all their training steps are those of the dense network.
The validation images are held out of the training images; the test images are looked at once, after a training.

Each finished run is a JSON file in --output, with its network beside it: stop it at any moment and give the same
command again. Several processes may work in one folder; each takes runs that no other has begun. pareto.md, pareto.csv
and pictures are written after each run from all that have finished there; pareto.md says what is missing.
"""

from __future__ import annotations

import argparse
import hashlib
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from pareto.execute import execute
from pareto.figure import draw
from pareto.networks import NETWORKS
from pareto.plan import Run, Wishes, from_facts, plan
from pareto.setting import BUDGETS, Setting, fewer_images
from pareto.tables import Finished, rows_of, to_csv, to_markdown
from run_files import check_same, path_of, read, told

from campfire_fx.app.train.data import ImageData, Where, open_data
from campfire_fx.app.train.recipe import PRECISIONS, Recipe, recipe_for
from campfire_fx.base.errors import CampfireError
from campfire_fx.report.pictures.canvas import installed

METHODS = (
    "uniform",
    "channel",
    "channel+reconfigure",
    "torch-pruning/magnitude/gradual",
    "torch-pruning/taylor/gradual",
    "torch-pruning/magnitude/one-shot",
    "torch-pruning/taylor/one-shot",
    "filter",
    "combined",
)
NEW_WEIGHTS = ("uniform",)
LEGEND = """\
- accuracy: of the test images; with several seeds their mean and its 95 % interval (Student's t).
- vs. dense, vs. uniform: accuracy minus that of the dense runs, or of uniform widths of the same target, with the same
  seeds, and its 95 % interval over the test images.
- MACs, parameters, time: of the network that is left, as shares of the dense one's; time: medians of calls in turns
  with it.
- training MACs: multiply-accumulates of all training steps (three forward passes each), as a share of the dense
  network's. Training: processor time and wall-clock time of steps and of changes of the network.
- Torch-Pruning: channels go in steps of 1/400 of all, ranked anew for each; a layer with less than 15 % of its channels
  is cut no more; momenta are cut as the weights are; Taylor scores are of the gradients of ten batches.
"""


def main() -> int:
    """Do the runs that are missing, and write table and pictures."""
    options = parse()
    torch.set_num_threads(options.threads)
    try:
        trained = options.from_trained is not None
        methods = options.methods or [m for m in METHODS if not (trained and m in NEW_WEIGHTS)]
        numbers = tuple(options.targets), tuple(options.sparsities), tuple(options.seeds)
        runs = plan(Wishes(tuple(methods), *numbers, scratch=tuple(options.scratch), trained=trained))
        data = open_data(options.data, Where(options.data_root, options.image_size))
        data = fewer_images(data, options.images)
        setting = setting_of(options, data)
        options.output.mkdir(parents=True, exist_ok=True)
        return work(runs, setting, data, options)
    except CampfireError as error:
        print(f"run_pareto: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped. Give the command again to go on.", file=sys.stderr)
        return 130


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", default="digits", help="digits, fashion-mnist, cifar10, or a folder of images")
    add("--data-root", type=Path, default=Path("data"), help="where data sets known by name lie")
    add("--data-name", help="what the data are called in the table (default: the folder's name)")
    add("--image-size", type=int, help="resize images to this side")
    add("--images", type=int, help="train on so many images, of every class the same share (default: all)")
    add("--model", default="resnet20", help=f"{', '.join(NETWORKS)}, or what campfire-fx train takes")
    add("--methods", nargs="+", help=f"see above (default: {' '.join(METHODS)})")
    add(
        "--targets",
        nargs="+",
        type=float,
        default=[0.5, 0.35, 0.7, 0.25],
        help="shares of the MACs, first things first",
    )
    add("--sparsities", nargs="+", type=float, default=[0.7], help="shares of zeros, for methods without a target")
    add("--scratch", nargs="+", default=[], metavar="METHOD", help="train the widths of these from scratch, too")
    add("--seeds", nargs="+", type=int, default=[0])
    add("--epochs", type=int, default=12, help="of the dense network")
    add("--era", nargs=2, type=int, help="first and last epoch (default: a fifth to six tenths)")
    add("--batch", type=int, default=128)
    add("--rate", type=float, help="highest learning rate (default: 0.1, and 0.03 with --from-trained)")
    add("--precision", choices=PRECISIONS, default="bfloat16", help="that layers compute in in training")
    add("--budget", choices=BUDGETS, default="epochs", help="what all runs have the same of")
    add("--from-trained", type=Path, metavar="FILE", help="begin with these dense weights, for a third of --epochs")
    add("--output", type=Path, default=Path("runs/pareto"))
    add("--threads", type=int, default=1)
    add("--list", action="store_true", help="say what is left, and train nothing")
    return parser.parse_args()


def setting_of(options: argparse.Namespace, data: ImageData) -> Setting:
    """Return what all runs share."""
    trained = None
    if options.from_trained is not None:
        if not options.from_trained.is_file():
            raise CampfireError(f"--from-trained {options.from_trained}: there is no such file. Check the path.")
        trained = f"{options.from_trained.name} {hashlib.sha256(options.from_trained.read_bytes()).hexdigest()[:12]}"
    name = options.data_name or Path(options.data).name
    recipe = _recipe(options)
    return Setting(name, len(data.train), options.model, data.shape, len(data.classes), recipe, options.budget, trained)


def _recipe(options: argparse.Namespace) -> Recipe:
    trained = options.from_trained is not None
    return recipe_for(
        options.data,
        epochs=max(1, round(options.epochs / 3)) if trained else options.epochs,
        era=None if options.era is None else tuple(options.era),
        batch=options.batch,
        rate=options.rate or (0.03 if trained else 0.1),
        precision=options.precision,
    )


def work(runs: list[Run], setting: Setting, data: ImageData, options: argparse.Namespace) -> int:
    """Do the missing runs one after the other; table and pictures are renewed after each."""
    folder = options.output
    while True:
        left = [run for run in runs if not path_of(folder, run).exists()]
        write_tables(finished_in(folder, setting), left, setting, options)
        print(f"{len(runs) - len(left)} of {len(runs)} runs done, {len(left)} left", flush=True)
        if options.list:
            print("\n".join(run.name for run in left))
        if options.list or not left:
            return 0
        if not any(_done(run, setting, data, options) for run in left):
            print("Other processes are at work on what is left.")
            return 0


def _done(run: Run, setting: Setting, data: ImageData, options: argparse.Namespace) -> bool:
    """Do a run, if no other process has it in hand and the run that it builds on has finished."""
    folder = options.output
    if run.scratch and not path_of(folder, run.parent).exists():
        return False
    try:
        with FileLock(folder / f".{run.name}.lock", timeout=0):
            if path_of(folder, run).exists():
                return True  # another process has just done it
            facts = execute(run, setting, data, folder, options.from_trained)
    except Timeout:
        return False
    print(f"{run.name}: {facts['accuracy']:.2%} in {told(facts['run_seconds'])}", flush=True)
    return True


def finished_in(folder: Path, setting: Setting) -> Finished:
    """Return all runs of a folder that have finished: dense first, then by method, size and seed.

    Raises:
        CampfireError: one had another budget, data or network.
    """
    found = []
    for path in folder.glob("*.json"):
        if path.name.startswith("."):
            continue
        facts = read(folder, _Named(path.stem))
        check_same(path, facts["setting"], setting.to_facts())
        found.append((from_facts(facts), facts))
    return sorted(found, key=lambda pair: _order(pair[0]))


class _Named:
    def __init__(self, name: str) -> None:
        self.name = name


def _order(run: Run) -> tuple[bool, str, bool, float, float, int]:
    return run.method != "dense", run.method, run.scratch, -(run.target or 0.0), run.sparsity or 0.0, run.seed


def write_tables(finished: Finished, left: Sequence[Run], setting: Setting, options: argparse.Namespace) -> None:
    """Write pareto.md, pareto.csv and, where matplotlib is installed, pictures, from the runs that have finished."""
    if not finished:
        return
    rows = rows_of(finished)
    (options.output / "pareto.csv").write_text(to_csv(rows), encoding="utf-8")
    if installed():
        title = f"{setting.data}, {setting.images:,} images, {setting.model}, {setting.recipe.epochs} epochs"
        draw(rows, options.output, title if setting.budget == "epochs" else f"{title}, equal compute")
    lines = [*_told(setting, options), "", to_markdown(rows), LEGEND]
    if left:
        lines.append(f"Missing: {', '.join(run.name for run in left)}.\n")
    (options.output / "pareto.md").write_text("\n".join(lines), encoding="utf-8")


def _told(setting: Setting, options: argparse.Namespace) -> list[str]:
    recipe = setting.recipe
    places = {"--data": options.data, "--output": options.output, "--from-trained": options.from_trained}
    hidden = {option for option, place in places.items() if place is not None and Path(place).exists()}
    words = [
        "PATH" if before in hidden else word for before, word in zip(["", *sys.argv[1:]], sys.argv[1:], strict=False)
    ]
    budget = "epochs" if setting.budget == "epochs" else "multiply-accumulates in training"
    start = "new weights" if setting.trained is None else f"the weights of {setting.trained}"
    text = (
        f"{setting.data}, {setting.images:,} training images of {setting.shape[1]} pixels, {setting.model} from"
        f" {start}, {recipe.epochs} epochs of batches of {recipe.batch} for the dense network and as many {budget} for"
        f" all; SGD with Nesterov momentum {recipe.momentum} and weight decay {recipe.decay}, learning rate up to"
        f" {recipe.rate} and down along a cosine, computed in {recipe.precision}, channels_last; pruning era"
        f" {recipe.era[0]} to {recipe.era[1]}; torch {torch.__version__.split('+')[0]}, {options.threads} CPU"
        " thread(s)."
    )
    return [text, "", f"    python tools/run_pareto.py {shlex.join(words)}"]


if __name__ == "__main__":
    sys.exit(main())
