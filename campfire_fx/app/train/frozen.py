"""What of a network stays as it is while the rest of it trains: modules that a user names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from campfire_fx.app.train.ends import classifiers
from campfire_fx.base.errors import TrainError
from campfire_fx.base.hints import did_you_mean
from campfire_fx.report.numbers import plural
from campfire_fx.sparsity.assignment import is_in

BACKBONE = "backbone"


@dataclass(frozen=True, slots=True)
class Frozen:
    """Modules whose own parameters and statistics do not move.

    Attributes:
        paths: of the modules, each by itself; smaller forms of the network have them under the same paths.
        layers: those of them that have a weight, as `sparsify` takes them.
        told: a line on how much that is.
    """

    paths: frozenset[str] = frozenset()
    layers: tuple[str, ...] = ()
    told: str = ""

    def hold(self, network: nn.Module) -> None:
        """Let no gradient reach what is frozen, and put its norms in evaluation mode: before a step in training mode.

        Weight decay and momentum pass over what has no gradient.
        """
        for path, module in network.named_modules():
            if path in self.paths:
                for parameter in module.parameters(recurse=False):
                    parameter.requires_grad_(False)
                if _has_statistics(module):
                    module.eval()


def freeze(network: nn.Module, patterns: Sequence[str], classes: int) -> Frozen:
    """Freeze the modules of a network that match any pattern, with all that is in them.

    Args:
        network: with the classifier that it will have; it is put in training mode, but for frozen norms.
        patterns: of the paths of modules, as file names are matched; or "backbone", all but the classifier, where no
            module has this name.
        classes: outputs of the network.

    Raises:
        TrainError: a pattern matches no module with weights, or nothing is left to train.
    """
    found = frozenset().union(*(_matched(network, pattern, classes) for pattern in patterns))
    layers = [path for path in sorted(found) if "weight" in network.get_submodule(path)._parameters]
    frozen = Frozen(found, tuple(layers))
    if not patterns:
        return frozen
    frozen.hold(network.train())
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in network.parameters()]
    if not any(trains for _, trains in sizes):
        raise TrainError(
            f"--freeze {' --freeze '.join(patterns)}: nothing is left to train. Freeze less, as --freeze backbone does,"
            f" which leaves the classifier."
        )
    norms = sum(_has_statistics(network.get_submodule(path)) for path in found)
    told = f"Frozen: {sum(size for size, trains in sizes if not trains):,} of {sum(size for size, _ in sizes):,}"
    return replace(frozen, told=f"{told} parameters, and the statistics of {plural(norms, 'norm')}.")


def _matched(network: nn.Module, pattern: str, classes: int) -> set[str]:
    """Return the paths of the modules that a pattern of --freeze matches, and of all that is in them."""
    names = [path for path, module in network.named_modules() if path and _holds_anything(module)]
    matched = {path for path in names if is_in(path, [pattern])}
    if not matched and pattern == BACKBONE:
        heads = classifiers(network, classes)
        matched = {path for path, _ in network.named_modules()}.difference(heads[-1:]) if heads else set()
    if not matched:
        why = (
            "it is not plain which layer is the classifier"
            if pattern == BACKBONE
            else "no module with weights has such a path"
        )
        raise TrainError(
            f"--freeze {pattern}: {why}.{did_you_mean(pattern, [*names, BACKBONE])} campfire-fx inspect lists them."
        )
    return matched


def _holds_anything(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None or any(map(_has_statistics, module.modules()))


def _has_statistics(module: nn.Module) -> bool:
    return isinstance(getattr(module, "running_mean", None), Tensor)
