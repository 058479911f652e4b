"""`campfire-fx train --config run.yaml`: its options in a file; every run writes one that gives the same run again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from campfire_fx.base.errors import TrainError
from campfire_fx.base.hints import did_you_mean

if TYPE_CHECKING:
    from campfire_fx.app.cli.training_plan import Planned

_HEAD = """\
# All options of this run: campfire-fx train --config FILE repeats it, on the same machine and versions.
# Options on the command line override those of the file.
"""
_NAMES = {"start_from": "from", "setting": "set"}  # where an option has another name than its parameter
_OF_ONE_CALL = ("show_recipe", "config", "resume", "overwrite", "quiet", "as_json")
_OF_THE_WEIGHTS = ("learning_rate", "augment", "image_size", "resize")  # follow from trained weights
_ABSENT = ("", "null", "~")
_LISTS = {"era": ":", "drops": ",", "formats": ","}  # and what is between their values on a command line


def use_config(context: typer.Context, path: Path | None) -> Path | None:
    """Take the options of a file as the defaults of the command at hand: a callback of --config.

    Raises:
        TrainError: it is no such file, it names an option that does not exist, or an option cannot have its value.
    """
    if path is None:
        return None
    options = {option: param for param in context.command.params for option in param.opts if param.name != "config"}
    given: dict[str, Any] = {}
    for key, value in _entries(path).items():
        param = options.get(f"--{key.replace('_', '-')}")
        if param is None or param.name is None:
            names = [option.removeprefix("--") for option in options if option.startswith("--")]
            raise TrainError(
                f"{path}: there is no option '{key}'.{did_you_mean(key, names)} See campfire-fx train --help."
            )
        if value in _ABSENT:
            continue
        try:
            given[param.name] = _as_typed(value, param.name, multiple=param.multiple)
            param.process_value(context, given[param.name])
        except typer.BadParameter as error:
            raise TrainError(f"{path}: {key}: {error.message.rstrip('.')}. Give another value.") from error
    context.default_map = given
    return path


def _as_typed(value: str | list[str] | dict[str, str], name: str, *, multiple: bool) -> str | list[str]:
    """Return a value of the file as it would be typed on a command line."""
    if isinstance(value, dict) and multiple:
        return [f"{key}={part}" for key, part in value.items()]
    if isinstance(value, list) and not multiple and name in _LISTS:
        return _LISTS[name].join(value)
    if isinstance(value, dict) or (isinstance(value, list) and not multiple):
        raise typer.BadParameter("it takes a single value")
    return [value] if multiple and isinstance(value, str) else value


def _entries(path: Path) -> dict[str, str | list[str] | dict[str, str]]:
    """Read keys and values, all as text: YAML would take an era 8:24 for the number 504."""
    import yaml

    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader)
    except OSError as error:
        raise TrainError(f"--config {path}: it cannot be read ({error.strerror}). Check the path.") from error
    except (yaml.YAMLError, ValueError) as error:  # the second: it is no UTF-8
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise TrainError(
            f"--config {path}{line}: it is not YAML. Write options as 'epochs: 12', one a line."
        ) from error
    if root is None:
        return {}
    if not isinstance(root, yaml.MappingNode):
        raise TrainError(f"--config {path}: it holds no options. Write them one a line, as 'epochs: 12'.")
    return _mapping(root, path, _value)


def _mapping(node: Any, path: Path, read: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in node.value:
        name = _scalar(key, path)
        if name in found:
            raise TrainError(f"{path}, line {key.start_mark.line + 1}: '{name}' appears twice. Remove one of them.")
        found[name] = read(value, path)
    return found


def _value(node: Any, path: Path) -> str | list[str] | dict[str, str]:
    import yaml

    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, _scalar)
    return [_scalar(part, path) for part in node.value] if isinstance(node, yaml.SequenceNode) else _scalar(node, path)


def _scalar(node: Any, path: Path) -> str:
    if not isinstance(node.value, str):
        raise TrainError(
            f"{path}, line {node.start_mark.line + 1}: it is nested too deeply. Give a value, a list of values, or"
            f" names with a value each."
        )
    return node.value


def config_text(planned: Planned, threads: int) -> str:
    """Return what a run was told, with what followed from that, as YAML.

    Args:
        planned: the run.
        threads: that it computes with.
    """
    import yaml

    values = {_NAMES.get(name, name.replace("_", "-")): _as_data(value) for name, value in _resolved(planned, threads)}
    return _HEAD + yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=1000, allow_unicode=True)


def _resolved(planned: Planned, threads: int) -> Sequence[tuple[str, Any]]:
    given, recipe, settings = planned.given, planned.recipe, planned.settings
    known = {
        **{name: getattr(settings, name) for name in ("model", "networks", "regime", "sparsity")},
        **{name: getattr(recipe, name) for name in given if hasattr(recipe, name) and name != "resize"},
        "learning_rate": recipe.rate,
        "weight_decay": recipe.decay,
        "resize": recipe.resize if recipe.augment == "crop" else None,
        "output": settings.folder,
        "threads": threads,
    }
    if planned.start is not None:
        known = {name: value for name, value in known.items() if name not in _OF_THE_WEIGHTS}
    found = [(name, known.get(name, value)) for name, value in given.items() if name not in _OF_ONE_CALL]
    off = {name for name, value in found if value is False and name not in known}  # without an option that says so
    return [(name, value) for name, value in found if value is not None and value != [] and name not in off]


def _as_data(value: Any) -> Any:
    """Return a value as YAML has it; NAME=VALUE become names and values, where no name is there twice."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return list(value) or "none"
    if isinstance(value, list) and all("=" in part for part in value):
        pairs: Mapping[str, str] = dict(part.split("=", 1) for part in value)
        return {name: _as_number(part) for name, part in pairs.items()} if len(pairs) == len(value) else value
    return value


def _as_number(text: str) -> Any:
    """Return a number, true or false as such where that is written in one way alone, else the text."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, (int, float)) and json.dumps(value) == text else text
