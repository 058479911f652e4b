"""The public accelerate: fold, fuse, choose a form for each layer, and prove that the outputs are equal."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from campfire_fx.acceleration.choice import choose
from campfire_fx.acceleration.forms import kernels_here
from campfire_fx.acceleration.model import AcceleratedModel
from campfire_fx.acceleration.sites import Site, sites_of
from campfire_fx.acceleration.whole import ACCELERATED, CHANNELS_LAST, whole_times
from campfire_fx.analysis.captured import Call, Captured
from campfire_fx.base.compat import children_of
from campfire_fx.base.copies import private_copy
from campfire_fx.base.errors import AccelerateError
from campfire_fx.base.nested import tensors_of
from campfire_fx.base.processor import processor_name
from campfire_fx.capture import examples_for, model_of
from campfire_fx.cost.acceleration_record import Acceleration, LayerChoice
from campfire_fx.layers.dressing import Dress, dress
from campfire_fx.layers.dual import DualGraphModule
from campfire_fx.passes.fuse_epilogues import fuse_epilogues
from campfire_fx.passes.make_layers import make_layers
from campfire_fx.passes.runner import apply
from campfire_fx.shrink.pipeline import Options, Shrunk, shrink_model
from campfire_fx.shrink.slim import SlimModel
from campfire_fx.shrink.verify import verify_parts


@torch.inference_mode(mode=False)
def accelerate(
    model: nn.Module, example_inputs: Any = None, *, examples: list[Any] | None = None, verify: bool = True
) -> AcceleratedModel:
    """Return the model with each convolution and linear layer in the form that is measured to be fastest on this CPU.

    For CPUs, in float32. Dead channels are removed, BatchNorms folded, sums and activations computed with the layer
    before them. Then every layer is timed on the example's shapes, with as many threads as torch has: dense as it is,
    with kernels that skip zeros, and with gathered columns. The fastest form is kept. If the whole
    network is not faster with these, the dense one is returned, with norms folded. The model given is not changed.

    The result takes any image size and batch that the model given takes, runs in torch.compile and torch.export, can
    be copied and pickled, and cannot be trained. Its times hold for this machine and this number of threads.

    Args:
        model: any model, of `shrink` or not, with zeros in its weights.
        example_inputs: a tensor, a tuple of positional or a dict of keyword arguments, of the shapes to time. None:
            those that a slim model was traced with, or a guess.
        examples: a list of such inputs, in the place of `example_inputs`, see `shrink`; all are timed.
        verify: compare outputs before and after, at two image and batch sizes; the result is in `.verification`.

    Raises:
        AccelerateError: weights or inputs are on another device than the CPU, or of another kind than float32.
        CaptureError: the model cannot be captured.
        ShrinkError: it has no layer, or equality cannot be proven.
    """
    from campfire_fx.report.progress import progress  # slow to load

    model = model_of(model)
    if isinstance(model, SlimModel) and example_inputs is None and examples is None:
        calls = list(model.examples)
    else:
        calls = examples_for(model, example_inputs, examples)
    _check(model, calls)
    given = [kwargs or args for args, kwargs in calls]
    with progress("Accelerating") as advance:
        shrunk = shrink_model(model, given, Options(computed=True, fold_norms=True), lambda what: advance(0, what))
        _evaluate_only(shrunk.captured)
        dense = private_copy(shrunk.module).eval()
        apply(shrunk.captured, make_layers, fuse_epilogues)
        layers = []
        for site in sites_of(shrunk.captured, calls):
            advance(0, f"timing {site.path}")
            layers.append(_given_form(shrunk.captured, site))
        advance(0, "timing the network")
        module, acceleration = _faster(dense, shrunk, layers, calls)
        proof = verify_parts(model, module, shrunk.captured, "Accelerating") if verify else None
    guessed = example_inputs is None and examples is None and (not isinstance(model, Dress) or model._guessed)
    acceleration = replace(acceleration, guessed=guessed)
    facts = {"acceleration": acceleration, "verification": proof, "example": calls[0]}
    return dress(module, AcceleratedModel, facts)


def _check(model: nn.Module, calls: list[Call]) -> None:
    """Refuse what the kernels do not compute with."""
    if isinstance(model, AcceleratedModel):
        raise AccelerateError("Cannot accelerate: the model is accelerated already. Give the slim model.")
    named = [(f"the weight {name}", tensor) for name, tensor in itertools.chain(
        model.named_parameters(), model.named_buffers())]  # fmt: skip
    for what, tensor in (*named, *(("the example", tensor) for tensor in tensors_of(calls))):
        if tensor.device.type != "cpu":
            raise AccelerateError(
                f"Cannot accelerate: {what} is on {tensor.device}, and these kernels are the CPU's. "
                "Move the model and the example to the CPU, or run the slim model as it is."
            )
        if tensor.is_floating_point() and tensor.dtype is not torch.float32:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise AccelerateError(
                f"Cannot accelerate: {what} is of {kind}, and these kernels compute in float32. "
                "Call .float() on the model and the example, or run the slim model as it is."
            )


def _evaluate_only(captured: Captured) -> None:
    """Let every part run its graph for evaluation in training, too: the result does not train."""
    for island in captured.islands:
        for number in range(len(island.module.graph_variants)):
            island.module.train_alike(number)
    captured.module.eval()


def _given_form(captured: Captured, site: Site) -> LayerChoice:
    """Choose a layer's form, and put it in the layer's place."""
    choice, module = choose(site)
    module.training = False
    if module is not site.module:
        for holder in list(captured.module.modules()):
            for name, child in children_of(holder).items():
                if child is site.module:
                    children_of(holder)[name] = module
    return choice


def _faster(
    dense: nn.Module, shrunk: Shrunk, layers: list[LayerChoice], calls: list[Call]
) -> tuple[nn.Module, Acceleration]:
    """Time the whole network, dense and with the forms chosen, and return the faster with what was measured."""
    whole = whole_times(dense, shrunk.module, calls)
    chosen = min(whole, key=lambda form: whole[form].median_ms)
    module = shrunk.module if chosen == ACCELERATED else dense
    if chosen == CHANNELS_LAST:
        module = module.to(memory_format=torch.channels_last)
    if isinstance(module, DualGraphModule):
        module.layers_changed()
    facts = Acceleration(tuple(layers), whole, chosen, torch.get_num_threads(), processor_name(), kernels_here())
    return module.requires_grad_(False), facts  # or what a dense layer gives would have a backward pass to come
