"""The public shrink, and what it gives back: a smaller model that knows what was done to it."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import torch
from torch import nn

from campfire_fx.analysis.plan import ShrinkPlan, Verification
from campfire_fx.base.choices import Compensate, Residual
from campfire_fx.base.errors import BenchError, ShrinkError
from campfire_fx.base.numbers import plain
from campfire_fx.capture import examples_for, model_of
from campfire_fx.cost.measure import one_sample
from campfire_fx.cost.runtime_times import BenchRecord
from campfire_fx.layers.dressing import Dress, dress
from campfire_fx.layers.dual import DualGraphModule
from campfire_fx.layers.masked import MaskedLayer
from campfire_fx.shrink.locate import first_difference
from campfire_fx.shrink.optimizer_state import carry_over, check_optimizer
from campfire_fx.shrink.pipeline import Options, Shrunk, shrink_model
from campfire_fx.shrink.verify import DifferentOutput, verify_parts

if TYPE_CHECKING:
    from campfire_fx.report.shrink import ShrinkReport


class SlimModel(Dress):
    """A model returned by `shrink`: an ordinary module (an fx.GraphModule where the whole was traced).

    Attributes:
        plan: what was kept, folded, rewritten and pinned, and why.
        verification: how far its outputs are from those of the model given, or None if not asked for.
        example: (args, kwargs) that it was traced with; the first, where there were several.
    """

    if TYPE_CHECKING:  # torch.jit.script takes annotations of a class for the types of its language
        plan: ShrinkPlan
        verification: Verification | None
        example: tuple[tuple[Any, ...], dict[str, Any]]
        _further: tuple[tuple[tuple[Any, ...], dict[str, Any]], ...]
        _origin: Origin

    @property
    def examples(self) -> tuple[tuple[tuple[Any, ...], dict[str, Any]], ...]:
        """All examples that it was traced with."""
        return (self.example, *vars(self).get("_further", ()))

    @property
    def _guessed(self) -> bool:
        return self.plan.guessed

    def report(self, *, runtimes: Sequence[str] | None = (), threads: int | None = 1) -> ShrinkReport:
        """Return what became smaller and faster, and what did not and why; print it with rich or `print`.

        Args:
            runtimes: also time both models in these, through files that are exported for it: "torch eager",
                "torch.compile", "ONNX Runtime", "OpenVINO", "MNN"; None: in all that are installed.
            threads: of the CPU, in these runtimes; None: one for each core at hand.

        Raises:
            BenchError: a runtime is not known or not installed, or the model is called with more than tensors.
        """
        from campfire_fx.report.shrink import shrink_report  # slow to load

        before = self._origin()
        if runtimes is not None and not runtimes:
            return shrink_report(self, before)
        return shrink_report(self, before, runtimes=in_runtimes(self, before, runtimes, threads))

    def _overview(self) -> Any:
        from campfire_fx.report.shrink import plan_report  # slow to load

        return plan_report(self.plan, self.verification)


def in_runtimes(
    slim: SlimModel, before: nn.Module | None, runtimes: Sequence[str] | None, threads: int | None
) -> BenchRecord:
    """Time a slim model, and the one it came from where that is still there, in runtimes: see `SlimModel.report`."""
    from campfire_fx.export.bench_models import bench_models  # slow to load

    args, kwargs = one_sample(slim, *slim.example)
    inputs = (*args, *kwargs.values())
    if kwargs or not all(isinstance(value, torch.Tensor) for value in inputs):
        raise BenchError(
            "report(runtimes=...): runtimes are timed with tensors as positional arguments, and this model is called "
            "with more. Export it, and time the files with campfire_fx.bench."
        )
    models: dict[str, nn.Module] = {"slim": slim} if before is None else {"before": before, "slim": slim}
    return bench_models(models, inputs, runtimes=runtimes, threads=threads)


@torch.inference_mode(mode=False)  # inference tensors cannot be trained
def shrink(  # noqa: PLR0913 - keyword-only wishes, each with a default
    model: nn.Module,
    example_inputs: Any = None,
    *,
    examples: list[Any] | None = None,
    residual: Residual = "union",
    round_to: int = 1,
    verify: bool = True,
    optimizer: torch.optim.Optimizer | None = None,
    auxiliary: bool | None = None,
    columns: bool = False,
    compensate: Compensate = "auto",
    fold_norms: bool = False,
    groups: bool = False,
) -> SlimModel:
    """Remove every channel that zeros in the weights have made dead; the output stays the same.

    Exact in evaluation mode, whatever made the zeros (masks of `torch.nn.utils.prune`, too). The model given is not
    changed; the new one shares no memory with it.

    The result is called like the model given. Whatever its code decided from the example (a branch on a size, the
    length of a list, an option) is checked in every call: inputs for which it would decide otherwise raise an
    AssertionError that describes the example. `plan.guards` lists it.

    Args:
        model: any model with at least one convolution or linear layer.
        example_inputs: a tensor, a tuple of positional or a dict of keyword arguments; guessed where None.
        examples: a list of such inputs, in the place of `example_inputs`, where the model's code takes different ways:
            another option, a mask or none, lists of other lengths. A call runs the graph of the first example that it
            is like; a channel goes if it is dead in all of them. `example` is the first.
        residual: "union" keeps a channel of a residual stream if any branch writes it; "gate" also removes channels
            that a single branch does not write or read, by selecting and adding by index where that saves time.
        round_to: keep just enough dead channels for every layer's count to be a multiple of this.
        verify: compare outputs before and after, at two image and batch sizes; the result is in `.verification`.
        optimizer: the optimizer of `model`; its parameters and state are exchanged for those of the new model, cut
            alike, so that training goes on. State that has another form than its parameter is cut where it is
            known (Adafactor's), and else refused by name; so is LBFGS. Weights that the model computes from
            parameters stay computed then; otherwise each becomes a parameter with its value.
        auxiliary: keep layers that only training uses (Inception's auxiliary head). Default: only when an optimizer is
            given.
        columns: where a convolution has columns (input channel, tap) that are zero in all filters, gather the others
            and convolve 1x1, if that is measured to be faster on the example's shapes. Off by default: the result
            depends on the machine, and its weights have another shape.
        compensate: take channels that are constant out of a LayerNorm or GroupNorm that measures them, which then
            counts them by numbers: "auto" where the multiplications saved are worth more than the time of the longer
            expression, "always" wherever the model gets smaller, "never". Not done where an optimizer is given.
        fold_norms: fold each BatchNorm into the convolution or linear layer before it, if every call of that layer is
            followed by this norm alone. For deployment: the result trains differently, since it uses the running
            statistics in training mode, too, and never those of a batch. `plan.norms` says which were folded, and why
            others were not. Not together with an optimizer.
        groups: where the filters of a convolution fall into sets that read the same few inputs, gather these and
            convolve in groups, if that is measured to be faster on the example's shapes: see docs/groups.md. Off by
            default: the result depends on the machine, and its weights have another shape.

    Raises:
        CaptureError: the model cannot be captured.
        ShrinkError: there is nothing to shrink, an argument is wrong, or equality cannot be proven.
    """
    from campfire_fx.report.progress import progress  # slow to load

    round_to = _check(residual, plain(round_to), compensate, columns=columns, fold_norms=fold_norms, groups=groups)
    model = model_of(model)
    if optimizer is not None:
        _check_training(model, optimizer, fold_norms=fold_norms)
    guessed = example_inputs is None and examples is None
    if guessed and isinstance(model, Dress):
        guessed = model._guessed
        examples = [kwargs or args for args, kwargs in model.examples]  # those that it was captured with
    calls = examples_for(model, example_inputs, examples)
    keep_auxiliary = optimizer is not None if auxiliary is None else auxiliary
    options = Options(residual, round_to, keep_auxiliary, columns, fold_norms=fold_norms, groups=groups)
    if optimizer is None:  # else training goes on with the parameters that there are
        options = replace(options, computed=True, compensate=compensate)
    with progress("Shrinking") as advance:
        given = [kwargs or args for args, kwargs in calls]
        shrunk = shrink_model(model, given, options, lambda what: advance(0, what))
    slim = shrunk.module
    proof = _prove(model, shrunk, given) if verify else None
    if optimizer is not None:
        carry_over(optimizer, shrunk)
    return _as_slim(slim, replace(shrunk, plan=replace(shrunk.plan, guessed=guessed)), proof, calls, model)


def _check(residual: str, round_to: int, compensate: str, *, columns: bool, fold_norms: bool, groups: bool) -> int:
    if residual not in get_args(Residual):
        raise ShrinkError(f'residual="{residual}" is not known. Use "union" or "gate".')
    if compensate not in get_args(Compensate):
        raise ShrinkError(f'compensate="{compensate}" is not known. Use "auto", "always" or "never".')
    if not isinstance(round_to, int) or round_to < 1:
        raise ShrinkError(f"round_to={round_to} is not a whole number of channels. Use 1, or 8 for most hardware.")
    if not isinstance(columns, bool):
        raise ShrinkError(f"columns={columns!r} is not a yes or no. Use True to gather columns where that is faster.")
    if not isinstance(fold_norms, bool):
        raise ShrinkError(f"fold_norms={fold_norms!r} is not a yes or no. Use True to fold BatchNorms into layers.")
    if not isinstance(groups, bool):
        raise ShrinkError(f"groups={groups!r} is not a yes or no. Use True to convolve in groups where that is faster.")
    return round_to


def _check_training(model: nn.Module, optimizer: torch.optim.Optimizer, *, fold_norms: bool) -> None:
    """Refuse what training cannot go on with."""
    if fold_norms:
        raise ShrinkError(
            "fold_norms=True with an optimizer: a folded norm has no state to go on training with. "
            "Give no optimizer, or leave fold_norms=False."
        )
    if any(isinstance(module, MaskedLayer) for module in model.modules()):
        raise ShrinkError(
            "shrink: masks ride on the optimizer of this sparse model. Call its own shrink(optimizer=...), which"
            " takes them off."
        )
    check_optimizer(optimizer, model)


def _prove(model: nn.Module, shrunk: Shrunk, examples: list[Any]) -> Verification:
    """Verify every captured part, and where that fails say at which operation the models part."""
    try:
        return verify_parts(model, shrunk.module, shrunk.captured)
    except DifferentOutput as error:
        place = first_difference(model, shrunk, examples)
        raise ShrinkError(f"{error} The first node that differs is {place}." if place else str(error)) from None


class Origin:
    """Remembers the model that was shrunk without keeping it; copies and pickles forget it."""

    def __init__(self, model: nn.Module) -> None:
        self._model: weakref.ref[nn.Module] | None = weakref.ref(model)

    def __call__(self) -> nn.Module | None:
        """Return the model, while it is alive."""
        return None if self._model is None else self._model()

    def __getstate__(self) -> dict[str, Any]:
        return {"_model": None}


def _as_slim(
    module: nn.Module, shrunk: Shrunk, proof: Verification | None, examples: list[Any], origin: nn.Module
) -> SlimModel:
    """Make the module an instance of SlimModel as well."""
    if isinstance(module, DualGraphModule):
        module.layers_changed()
    facts = {
        "plan": shrunk.plan,
        "verification": proof,
        "example": examples[0],
        "_further": tuple(examples[1:]),
        "_origin": Origin(origin),
    }
    return dress(module, SlimModel, facts)
