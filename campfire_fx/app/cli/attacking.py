"""`campfire-fx attack`: dense, sparse and slim under FGSM, as a table, a plot and files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from campfire_fx.app.cli.options import AsJson, ModelArguments, OwnModel
from campfire_fx.app.cli.terminal import model_options, numbers, show
from campfire_fx.app.robustness import TUTORIAL_EPSILONS, AttackRecord, Normalisation, attack
from campfire_fx.app.robustness.fgsm import Space
from campfire_fx.app.runs.folder import ATTACK, read_results
from campfire_fx.app.runs.networks import Wanted, networks_of, raw_batches, run_folder_of
from campfire_fx.app.train.data import ImageData, Where, open_data
from campfire_fx.base.disk.whole import told_as, write_text
from campfire_fx.base.errors import AttackError
from campfire_fx.base.hints import install_command
from campfire_fx.report import AttackReport, pictures
from campfire_fx.report.progress import progress

_EPSILONS = ",".join(f"{epsilon:g}" for epsilon in TUTORIAL_EPSILONS)


def attack_command(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="A run folder of `train` (dense, sparse, slim), its .ckpt files, exported files, or a MODEL.",
            show_default=False,
        ),
    ],
    epsilon: Annotated[
        str, typer.Option(help="Step sizes, separated by commas; fractions too, as 2/255,8/255.")
    ] = _EPSILONS,
    space: Annotated[
        Space, typer.Option(help="Unit of epsilon. raw: images from 0 to 1; normalised: standard deviations.")
    ] = "raw",
    data: Annotated[str | None, typer.Option(help="As for train.", show_default="the run's")] = None,
    data_root: Annotated[Path | None, typer.Option(help="As for train.", show_default="the run's")] = None,
    image_size: Annotated[int | None, typer.Option(help="As for train.", min=8, show_default="the run's")] = None,
    split: Annotated[Literal["test", "valid"], typer.Option(help="Images to attack.")] = "test",
    images: Annotated[int | None, typer.Option(help="Only the first N images.", min=1, show_default="all")] = None,
    mean: Annotated[str | None, typer.Option(help="Mean of each channel.", show_default="the data's")] = None,
    std: Annotated[str | None, typer.Option(help="Deviation of each channel.", show_default="the data's")] = None,
    weights: Annotated[Path | None, typer.Option(help="File with the state_dict of MODEL.")] = None,
    model: OwnModel = None,
    option: ModelArguments = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for attack.json, .csv and .png.", show_default="the run's, or here")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare the accuracy of networks under FGSM attacks, one gradient step each.

    The images are normalised by their own mean and std, as `train` does, unless --mean and --std say otherwise. What
    is found is written as attack.json, attack.csv and attack.png, and is part of the run's next `report`.

    **Examples**

        campfire-fx attack runs/digits
        campfire-fx attack runs/digits --epsilon 1/255,2/255,4/255,8/255
        campfire-fx attack resnet50 --weights resnet50.pt --data imagenet --image-size 224 --mean 0.485,0.456,0.406
        --std 0.229,0.224,0.225
    """
    steps = numbers(epsilon, "--epsilon")
    folder = run_folder_of(sources)
    if (weights is not None or option) and all(Path(source).exists() for source in sources):
        raise typer.BadParameter(
            "--weights and --option apply to a model given by name, and no SOURCE is one. Leave them out."
        )
    opened = _open(folder, data, data_root, image_size)
    normalisation = _normalisation(opened, mean, std)
    networks = networks_of(sources, opened, Wanted(model, weights, model_options(option)))
    total = len(opened.test if split == "test" else opened.valid)
    with progress("Attacking", total=min(images or total, total)) as advance:
        record = attack(
            networks,
            raw_batches(opened, split, images),
            steps,
            normalisation=normalisation,
            space=space,
            advance=advance,
        )
    written, missing = _write(record, output or folder or Path())
    if as_json:
        print(record.to_json())  # noqa: T201  rich would wrap it
        return
    show(AttackReport(record))
    show(f"Written: {', '.join(map(str, written))}.{missing}")


def _open(folder: Path | None, name: str | None, root: Path | None, size: int | None) -> ImageData:
    """Open the data of the options, and where they are silent those of the run."""
    told: dict[str, Any] = read_results(folder).get("settings", {}) if folder is not None else {}
    chosen = name or told.get("data")
    if chosen is None:
        raise AttackError("Data: it is not recorded what the networks were trained on. Give --data, as for train.")
    same = name is None or name == told.get("data")
    recipe: dict[str, Any] = told.get("recipe", {}) if same else {}
    where = Where(
        root or Path(told.get("data_root") or "data"),
        size or (told.get("image_size") if same else None),
        streamed=recipe.get("augment") == "crop",
        resize=None if size else recipe.get("resize"),
        interpolation=recipe.get("interpolation"),
        held_out=recipe.get("held_out", Where().held_out),
    )
    opened = open_data(chosen, where)
    return opened.given_as(**told["given"]) if same and "given" in told else opened


def _normalisation(data: ImageData, mean: str | None, std: str | None) -> Normalisation:
    if (mean is None) != (std is None):
        raise typer.BadParameter("--mean and --std belong together. Give both, or none for the data's own.")
    if mean is None or std is None:
        return Normalisation(data.mean, data.std)
    return Normalisation(numbers(mean, "--mean"), numbers(std, "--std"))


def _write(record: AttackRecord, folder: Path) -> tuple[list[Path], str]:
    """Write the record and its plot; returns the files, and a sentence if there is no plot."""
    paths = [folder / ATTACK, folder / "attack.csv"]
    with told_as(AttackError, folder, "Folder"):
        folder.mkdir(parents=True, exist_ok=True)
    for path, text in zip(paths, (record.to_json() + "\n", record.to_csv()), strict=True):
        write_text(path, text, AttackError)
    if not pictures.installed():
        return paths, f" No plot: matplotlib is not installed. Run {install_command('plot')}."
    return [*paths, pictures.save(pictures.robustness_curves(record), folder / "attack.png")], ""
