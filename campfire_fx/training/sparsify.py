"""The public sparsify: a copy of a model that trains sparse."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import torch
from torch import nn

from campfire_fx.analysis.captured import Captured
from campfire_fx.base.choices import ChannelScope, CkScope, DeadNorm, MasksMove, RegimeName, ScoreName
from campfire_fx.base.errors import CampfireError, RegimeError
from campfire_fx.base.hints import did_you_mean
from campfire_fx.base.numbers import plain
from campfire_fx.capture.given import model_of
from campfire_fx.layers.dressing import dress
from campfire_fx.layers.masked import COMPUTED
from campfire_fx.passes.insert_masks import Insertion
from campfire_fx.passes.make_relus import make_relus
from campfire_fx.passes.runner import apply
from campfire_fx.sparsity.assignment import (
    FROZEN,
    Assignment,
    Override,
    Request,
    as_regime,
    assign,
    check_era,
    check_sparsity,
    is_in,
)
from campfire_fx.sparsity.channels.scores import ChannelScore
from campfire_fx.sparsity.clock import Clock
from campfire_fx.sparsity.coupled_channels import CoupledChannels
from campfire_fx.sparsity.layer import LayerState
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.state import SparsityState
from campfire_fx.training.couple import couple
from campfire_fx.training.life_cycle import LifeCycle
from campfire_fx.training.masked_copy import masked_copy
from campfire_fx.training.model import SparseModel

_SWITCHES = ("prune_1x1", "prune_stem", "prune_fc")
_WORDS = {"dead_norm": get_args(DeadNorm), "masks_move": get_args(MasksMove)}


@torch.inference_mode(mode=False)  # inference tensors cannot be trained
def sparsify(  # noqa: PLR0913 - keyword-only settings, each with a default
    model: nn.Module,
    regime: RegimeName | str | Regime = "combined",
    *,
    sparsity: float = 0.7,
    era: tuple[int, int] = (0, 10),
    example_inputs: Any = None,
    examples: list[Any] | None = None,
    exponent: float = 3.0,
    overrides: Mapping[str, Override] | None = None,
    prune_1x1: bool = True,
    prune_stem: bool | None = None,
    prune_fc: bool = True,
    frozen: Sequence[str] = (),
    window_cap: int | None = None,
    ck_scope: CkScope = "layer",
    period: int | None = None,
    rho: float | None = None,
    groups: int | None = None,
    target: Mapping[str, float] | None = None,
    score: ScoreName | ChannelScore | None = None,
    scope: ChannelScope | None = None,
    at_least: float | None = None,
    round_to: int | None = None,
    soft: bool | None = None,
    threshold: float | None = None,
    strength: float | None = None,
    rounds: int | None = None,
    rewind_to: int | None = None,
    dead_norm: DeadNorm = "zero",
    masks_move: MasksMove = "before",
) -> SparseModel:
    """Return a copy of a model that trains sparse; the model given is not touched.

    Parameters keep their names, so a dense `state_dict` loads. Train it as any model, after
    `sparse.attach(optimizer, steps_per_epoch=len(loader))`; then `sparse.shrink()`.

    Args:
        model: any model with a convolution.
        regime: "combined" (Campfire's best trade), "window", "ck", "inter-epoch", "fine-fc", "block-fc", "filter",
            "2:4" and other N:M, "1x4", "grouped", "unstructured", "swat-u", "swat-erk", "swat-m", "swat-structured",
            "rigl", "admm-filter" and other structures by ADMM, or another name of docs/regimes.md; or a `Regime`
            composed of parts of `campfire_fx.sparsity`.
        sparsity: fraction of the weights of each layer to remove, in [0, 1). The paper finds under one point of
            accuracy lost up to 0.6 - 0.7. Ignored by N:M, which fixes its own.
        era: (start, end), epochs counted from 0, in which sparsity rises. It is 0 in epoch `start` and final from
            epoch `end` on. The default is the one span of the paper that fits a short training (Tiny-ImageNet, 40
            epochs); for 90 epochs and more it found later eras better: (30, 50), (40, 60), (40, 70).
        example_inputs: a tensor, a tuple of positional or a dict of keyword arguments; guessed where None.
        examples: a list of such inputs, in the place of `example_inputs`, where the model's code takes different ways:
            see `shrink`.
        exponent: of the rise in eq. (1). The paper does not give it; 3 is that of the schedule it builds on.
        overrides: path pattern ("layer4.*") to a sparsity of its own (0: dense), or to a dict of any of sparsity,
            era, exponent, regime. Later patterns win. A layer named in full is pruned whatever the switches say.
        prune_1x1: prune 1x1 convolutions too, by magnitude. The paper's prose speaks of 3x3 kernels only, but its
            numbers add up only with 1x1 pruned (an inference).
        prune_stem: prune convolutions that read the model's input. The paper does not say; they hold next to
            nothing (0.04 % of ResNet-50), and most other methods leave them dense. None: the regime decides: only
            "swat-erk" and "swat-m" prune them.
        prune_fc: prune linear layers, each output keeping at least one weight.
        frozen: paths of modules that do not train, or patterns of them: layers in them stay dense, and keep all
            channels that they write. Weights that read dead channels are still removed. Stop their training yourself
            (`requires_grad_(False)`).
        window_cap: for "window" and "combined": the most non-zeros a kernel may keep, whatever the sparsity.
        ck_scope: for "ck" and "combined": rank kernels within the "layer" (the paper's text), or within each input
            "channel", so that each keeps the same number of kernels.
        period: steps of the optimizer, for the SWAT regimes between two computations of the thresholds (None: 10), for
            "rigl" between two exchanges of weights (None: 100).
        rho: for the ADMM regimes: how strongly weights are pulled to their sparse values; None: 0.2 divided by the
            steps of an epoch. It is multiplied by 1.3 at every epoch.
        groups: for "grouped": into how many sets the filters of a layer fall; None: 4.
        target: for "channel" and "channel-combined", in the place of `sparsity`: what the slim network may cost, as
            {"macs": 0.5}: "macs", "parameters" and "latency" as fractions of the dense network's, "gmacs",
            "mparameters" and "latency_ms" as numbers; with several keys all are met. At the end of the era `shrink`
            meets it.
        score: for "channel" and "channel-combined": how much a channel matters: "flow" (the default), "l1", "l2",
            "norm_scale", "fpgm", "taylor", "at_random", or a `ChannelScore`.
        scope: for the same: "global" ranks channels over the whole model, "each set" removes the same share of each
            coupled set. None: "global" if there is a target.
        at_least: for the same: how many channels of each coupled set stay, a share or a whole number; None: 0.15. Can
            also be given in `overrides`.
        round_to: for the same: each coupled set keeps a multiple of this number of channels.
        soft: for "channel": chosen channels are set to zero at each epoch, but train on until the era ends.
        threshold: for "channel" and its variants: remove all channels whose score does not exceed it;
            for "pfa": the share of the responses' energy that may be lost.
        strength: for regimes with a penalty ("network-slimming", "ssl", "prune-train", "greg", "sparse-structure"): how
            strongly weights are pulled to zero.
        rounds: for "lottery-ticket" and "deep-compression": how often they prune in the era; None: 5, and 3.
        rewind_to: for "lottery-ticket": the epoch whose weights training goes back to; None: 0, the initial ones.
        dead_norm: "zero" also zeroes the BatchNorm channel (weight, bias, running mean) and the convolution's bias
            behind a filter that dies, so that training sees the channel as the zero it will be; "keep" leaves
            them, and shrinking folds the constant that remains. Norms behind layers whose weights can come
            back (SWAT, drop and grow) are always kept.
        masks_move: "before" the first update of an epoch, when the epoch begins; or "after" it, as in the paper's
            Algorithm 2. If the era ends with the training, call `finalize` at the end.

    Returns:
        A SparseModel; an fx.GraphModule where the whole model could be captured.

    Raises:
        CampfireError: the model has no convolution (or, for the fc regimes, no linear layer).
        CaptureError: no part of the model can be captured.
        RegimeError: the regime is unknown, or a number is out of range.
    """
    own: dict[str, Any] = {
        "window_cap": window_cap, "ck_scope": ck_scope, "period": period, "rho": rho, "target": target, "score": score,
        "scope": scope, "at_least": at_least, "round_to": round_to, "soft": soft, "threshold": threshold,
        "strength": strength, "rounds": rounds, "rewind_to": rewind_to, "groups": groups,
    }  # fmt: skip
    shared: dict[str, Any] = {
        "sparsity": sparsity, "era": era, "exponent": exponent, "prune_1x1": prune_1x1, "prune_stem": prune_stem,
        "prune_fc": prune_fc, "frozen": frozen, "overrides": overrides, "dead_norm": dead_norm,
        "masks_move": masks_move,
    }  # fmt: skip
    settings = check_settings(regime, **own, **shared)  # says what is wrong with them before anything is done
    _require_example(settings.regime, example_inputs, examples)
    _require_modules(model, settings.frozen)
    captured, insertion = masked_copy("sparsify", model, example_inputs, examples)
    _require_layers(model, settings.regime, insertion)
    cycle = _life_cycle(captured, insertion, settings, dead_norm=dead_norm, late=masks_move == "after")
    cycle.guessed = example_inputs is None and examples is None
    cycle.begin(captured.module)
    return dress(captured.module, SparseModel, {"_life_cycle": cycle})


def check_settings(regime: str | Regime, **given: Any) -> Request:
    """Return what is asked of every layer; raise the RegimeError that `sparsify` raises whatever the model is.

    Args:
        regime: as `sparsify` takes it.
        given: others of its keyword arguments.
    """
    keywords = (p for p in inspect.signature(sparsify).parameters.values() if p.kind is p.KEYWORD_ONLY)
    own = {p.name: p.default for p in keywords if p.name not in ("example_inputs", "examples")} | given
    names = ("sparsity", "era", "exponent", "overrides", "frozen", *_SWITCHES, *_WORDS)
    asked = {name: own.pop(name) for name in names}
    settings = Request(
        regime=as_regime(regime, **own),
        sparsity=check_sparsity(asked["sparsity"], "sparsify"),
        era=check_era(asked["era"], "sparsify"),
        exponent=plain(asked["exponent"]),
        overrides=asked["overrides"] or {},
        frozen=tuple([asked["frozen"]] if isinstance(asked["frozen"], str) else asked["frozen"]),
        **{name: asked[name] for name in _SWITCHES},
    )
    settings.regime.schedule(*settings.era, settings.exponent)
    _check_switches(**{name: False if asked[name] is None else asked[name] for name in _SWITCHES})
    for name, words in _WORDS.items():
        if asked[name] not in words:
            raise RegimeError(f"{name}: '{asked[name]}' is not known. Use {' or '.join(map(repr, words))}.")
    return settings


def _life_cycle(
    captured: Captured, insertion: Insertion, settings: Request, *, dead_norm: str, late: bool
) -> LifeCycle:
    """Say what each layer is asked for, and make the model ready for it."""
    assignments = assign(insertion.layers, settings)
    _require_rules(settings.regime, assignments)
    final = settings.sparsity if settings.regime.sparsity is None else settings.regime.sparsity
    pruned = [a for a in assignments if a.rule is not None]
    returning = {a.name for a in pruned if a.method.weights_return}
    if any(a.method.packs_inputs for a in pruned):
        apply(captured, make_relus)
    couples = any(a.method.couples for a in pruned)
    coupling = couple(captured, assignments, dead_norm=dead_norm) if couples else None
    layers = {a.name: LayerState(a) for a in assignments}
    zeroed = (n for n in insertion.norms if dead_norm == "zero" and not returning.intersection(n.convolutions))
    return LifeCycle(
        state=SparsityState(settings.regime.name, final, layers, Clock(late=late), coupling),
        norms=tuple(zeroed),
        unmasked=insertion.unmasked,
        examples=((captured.args, captured.kwargs), *captured.others),
    )


def _check_switches(**switches: object) -> None:
    """Raise if a switch is no bool: words would all count as on."""
    for name, value in switches.items():
        if not isinstance(plain(value), bool):
            raise RegimeError(f"{name}: {value!r} is neither True nor False. Give one of them.")


def _require_example(regime: Regime, example_inputs: Any, examples: list[Any] | None) -> None:
    """Raise if time is to be measured, and nothing says on what."""
    timed = isinstance(regime.method, CoupledChannels) and regime.method.target.timed
    if timed and example_inputs is None and not examples:
        raise RegimeError("target at latency: time depends on the input. Give example_inputs of the size meant.")


def _require_modules(model: nn.Module, patterns: Sequence[str]) -> None:
    """Raise if a pattern of what is frozen matches nothing."""
    names = [name for name, _ in model_of(model).named_modules()] if patterns else []
    for pattern in patterns:
        if not any(is_in(name, [pattern]) for name in names):
            raise RegimeError(f"frozen '{pattern}': no module has such a path.{did_you_mean(pattern, names)}")


def _require_layers(model: nn.Module, regime: Regime, insertion: Insertion) -> None:
    """Raise if the model has no layer of the kind that the regime is about."""
    wants_linear = regime.spatial is None and regime.pointwise is None
    if any(layer.linear == wants_linear for layer in insertion.layers):
        return
    kind = "linear layer" if wants_linear else "convolution"
    why = "".join(f" {path}: {reason}." for path, reason in insertion.unmasked[:1])
    advice = (
        f"Give a model that calls torch's {'nn.Linear' if wants_linear else 'nn.Conv2d or the like'} in its forward."
    )
    if any(reason == COMPUTED for _, reason in insertion.unmasked):
        advice = "Make it one, with torch.nn.utils.prune.remove or parametrize.remove_parametrizations."
    raise CampfireError(f"{type(model).__name__}: it has no {kind} that can hold a mask.{why} {advice}")


def _require_rules(regime: Regime, assignments: Sequence[Assignment]) -> None:
    """Raise if every layer would stay dense."""
    if any(assignment.rule is not None for assignment in assignments):
        return
    first = assignments[0]
    advice = f"Name a layer in overrides, as {{'{first.name}': 0.5}}, or turn on prune_stem, prune_1x1 or prune_fc."
    raise RegimeError(
        f"regime '{regime.name}' at {first.name}: every layer would stay dense; this one because {first.reason}. "
        f"{'Freeze fewer layers.' if first.reason == FROZEN else advice}"
    )
