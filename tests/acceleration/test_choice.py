"""The comparison of forms: rounding passes, whatever cancels out or is added; the least fault does not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from campfire_fx.acceleration.choice import _fastest, _fault, choose
from campfire_fx.acceleration.forms import grouped_filters
from campfire_fx.acceleration.sites import LayerCall, Site
from campfire_fx.cost.acceleration_record import FormTime
from campfire_fx.layers.fused import FusedLayer
from campfire_fx.layers.sparse import sparse_layer
from tests.acceleration.forced import needs_compiler


@needs_compiler
@pytest.mark.parametrize("seed", range(4))
def test_rounding_passes_where_few_small_weights_meet_a_large_residual(seed: int) -> None:
    torch.manual_seed(seed)
    conv = nn.Conv2d(64, 256, 1)
    with torch.no_grad():
        conv.weight.mul_(1e-3)[torch.rand_like(conv.weight) < 0.97] = 0
        conv.bias.mul_(1e-3)
    site = Site("conv", FusedLayer(conv, "relu"), conv, "relu", [LayerCall((1, 64, 14, 14), torch.float32, True)])
    made = sparse_layer(conv, "relu")
    assert isinstance(made, nn.Module)
    assert _fault(site, made, site.examples()[0]) == ""
    made.values[3] *= 1 + 1e-3
    assert _fault(site, made, site.examples()[0][:1]).startswith("its output differs by ")


@pytest.mark.parametrize("filters", ["in order", "mixed"])
def test_sets_of_filters_are_grouped(filters: str) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 24, 3, stride=2, padding=1, padding_mode="reflect")
    site = Site("conv", FusedLayer(conv, "relu"), conv, "relu", [LayerCall((2, 16, 9, 8), torch.float32, True)])
    assert grouped_filters(site) == "its filters do not form sets that read the same few inputs"
    order = torch.arange(24) if filters == "in order" else torch.randperm(24)
    with torch.no_grad():
        for half in range(2):
            conv.weight[order[12 * half : 12 * half + 12], 8 * half : 8 * half + 8] = 0
    made = grouped_filters(site)
    assert isinstance(made, nn.Module) and _fault(site, made, site.examples()[0]) == ""
    assert next(part for part in made.modules() if isinstance(part, nn.Conv2d)).groups == 2
    assert choose(site)[0].times[-1].ms is not None


def test_a_form_must_be_faster_by_more_than_noise() -> None:
    def times(dense: float, sparse: float | None) -> list[FormTime]:
        return [FormTime("dense", dense), FormTime("zeros skipped", sparse, "" if sparse else "few weights are zero")]

    assert _fastest(times(1.0, 0.5)) == ("zeros skipped", "2.00x as fast")
    assert _fastest(times(1.0, 0.99)) == _fastest(times(1.0, 1.5)) == ("dense", "no other form is faster")
    assert _fastest([FormTime("dense"), FormTime("zeros skipped", None, "why")]) == ("dense", "why")
