"""Operations of sparse inference and training, per layer and in all, in multiply-accumulates (1 MAC = 2 FLOPs)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from campfire_fx.base.errors import CostError
from campfire_fx.base.records import Record
from campfire_fx.cost.densities import Density, density_of
from campfire_fx.cost.layers import Layer, Work


@dataclass(frozen=True, slots=True)
class LayerFlops(Record):
    """One layer's multiply-accumulates when sparse; `dense` is one dense forward pass, and each other pass as much.

    The stem's input gradient counts too, though the image needs none: so do the published tables.
    """

    layer: Layer
    density: Density

    @property
    def dense(self) -> float:
        """MACs of a dense forward pass; of a dense training step it has three times as many."""
        return float(self.layer.macs)

    @property
    def forward(self) -> float:
        """MACs with the weights that are kept and all activations."""
        return self.dense * self.density.weights

    @property
    def input_gradient(self) -> float:
        """MACs with the weights that are kept and all output gradients."""
        return self.dense * self.density.weights

    @property
    def weight_gradient(self) -> float:
        """MACs with the activations that are kept, for the weights whose gradient is wanted."""
        return self.dense * self.density.activations * self.density.weight_gradient

    @property
    def training(self) -> float:
        """MACs of all three passes."""
        return self.forward + self.input_gradient + self.weight_gradient


@dataclass(frozen=True, slots=True)
class FlopCount(Record):
    """A model's multiply-accumulates, dense and sparse, for the inputs it was measured with.

    Attributes:
        layers: its convolutions and linear layers.
        other_macs: of a forward pass, in everything else that multiplies; dense in every pass.
        dense_overhead: dense work of training outside all of these, as a fraction of the dense training MACs. See
            `count_flops`.
    """

    layers: tuple[LayerFlops, ...]
    other_macs: int = 0
    dense_overhead: float = 0.0

    @property
    def dense_inference(self) -> float:
        """MACs of a dense forward pass."""
        return self.other_macs + sum(layer.dense for layer in self.layers)

    @property
    def inference(self) -> float:
        """MACs of a forward pass with the weights that are kept; zeros among activations are not credited."""
        return self.other_macs + sum(layer.forward for layer in self.layers)

    @property
    def dense_training(self) -> float:
        """MACs of a dense training step: three forward passes, and the overhead."""
        return 3 * self.dense_inference * (1 + self.dense_overhead)

    @property
    def training(self) -> float:
        """MACs of a sparse training step, and the overhead, which stays dense."""
        overhead = 3 * self.dense_inference * self.dense_overhead
        return overhead + 3 * self.other_macs + sum(layer.training for layer in self.layers)

    @property
    def inference_reduction(self) -> float:
        """The fraction of a dense forward pass that is saved."""
        return _saved(self.inference, self.dense_inference)

    @property
    def training_reduction(self) -> float:
        """The fraction of a dense training step that is saved."""
        return _saved(self.training, self.dense_training)


def _saved(sparse: float, dense: float) -> float:
    return 1 - sparse / dense if dense else 0.0


def count_flops(work: Work, densities: Mapping[str, Density], *, dense_overhead: float = 0.0) -> FlopCount:
    """Count what each layer computes in inference and training.

    Layer l of f multiply-accumulates that keeps w of its weights and a of its activations saves
    f * ((1 - w) + (1 - w) + (1 - a)) in a training step: forward, input gradient, weight gradient (SWAT).

    Args:
        work: the model's layers, from `work_of`.
        densities: by layer path; layers that are not named are dense.
        dense_overhead: work of a training step that is in no layer and never sparse (BatchNorm is what comes to
            mind), as a fraction of the dense training MACs. 0 by default. SWAT's published training reductions are
            those of an overhead of 2.1 % on ResNet-50 and 0.78 % on WRN-50-2; what it consists of is not published.

    Raises:
        RegimeError: a density is given for a layer that there is not.
        CostError: the overhead is negative.
    """
    if not dense_overhead >= 0:
        raise CostError(f"dense_overhead: {dense_overhead!r} is below 0. Give a fraction of the dense training MACs.")
    known = density_of(densities, work.layers)
    layers = tuple(LayerFlops(layer, known[layer.name]) for layer in work.layers)
    return FlopCount(layers, work.other_macs, dense_overhead)
