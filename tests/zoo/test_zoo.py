"""Models of torchvision with random zeros: exact in both precisions at two sizes, the model given untouched.

A sample of every kind runs always; all of them with `pytest -m zoo tests/zoo`, or, resumable and with a table,
`python tools/run_zoo.py`.
"""

from __future__ import annotations

import pytest

from tests.zoo.channels import prune
from tests.zoo.measure import LIMITS, Measured, measure
from tests.zoo.specimens import FAMILIES, family, names, specimen

SAMPLE = (
    "densenet121",
    "efficientnet_b0",
    "googlenet",
    "inception_v3",
    "lraspp_mobilenet_v3_large",
    "mobilenet_v3_small",
    "quantized_resnet18",
    "r3d_18",
    "raft_small",
    "regnet_x_400mf",
    "resnet18",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "ssdlite320_mobilenet_v3_large",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
)
TRANSFORMERS = ("vit_", "swin", "mvit_", "maxvit_")  # may be pinned as a whole: they must pass through unharmed
GIANTS = ("regnet_y_128gf", "vit_h_14")  # 2.5 GB each, several copies in float64


def assert_exact_and_smaller(found: Measured) -> None:
    """A model came out exact in every precision, and smaller unless it is a transformer."""
    for dtype, difference in found.differences.items():
        assert difference <= LIMITS[dtype], f"{found.name}: outputs differ by {difference:.1e} in {dtype}"
    most = 1.0 if found.name.startswith(TRANSFORMERS) else 0.9
    assert found.left <= most, f"{found.name}: {found.left:.1%} of the parameters are left; pins: {found.pins}"


@pytest.mark.parametrize("name", SAMPLE)
def test_a_sample_is_exact(name: str) -> None:
    assert_exact_and_smaller(measure(name))


@pytest.mark.zoo
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", [name for name in names() if name not in SAMPLE and name not in GIANTS])
def test_all_others_are_exact(name: str) -> None:
    assert_exact_and_smaller(measure(name))


CHANNELS = (
    "efficientnet_b0",
    "fasterrcnn_mobilenet_v3_large_320_fpn",  # whose second stage runs once for each region
    "googlenet",
    "inception_v3",  # whose auxiliary head cannot run on images as small as these
    "mobilenet_v3_small",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
)


@pytest.mark.parametrize("name", CHANNELS)
def test_half_of_the_multiply_accumulates_go(name: str) -> None:
    found = prune(name, 0.5)
    assert found.exact and not found.refused, found
    assert 0.49 < found.left <= 0.5


@pytest.mark.zoo
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", [name for name in names() if name not in (*CHANNELS, *GIANTS)])
def test_all_others_meet_the_target_or_say_that_they_cannot(name: str) -> None:
    found = prune(name, 0.5)
    assert found.exact, found


@pytest.mark.parametrize("name", ["resnet18", "shufflenet_v2_x0_5"])
def test_gate_is_exact_too(name: str) -> None:
    union, gate = measure(name, dtypes=("float64",)), measure(name, "gate", dtypes=("float64",))
    assert gate.exact, gate
    assert gate.after <= union.after


def test_every_model_has_a_family_and_every_family_a_model() -> None:
    assert len(names()) >= 121
    used = {family(name).pattern for name in names()}
    assert used == {f.pattern for f in FAMILIES}


def test_a_specimen_is_sparse_sane_and_the_same_each_time() -> None:
    one, two = specimen("resnet18"), specimen("resnet18")
    weight = one.model.get_parameter("layer1.0.conv1.weight")
    assert int((weight.flatten(1) == 0).all(1).sum()) == weight.shape[0] // 2
    assert weight.equal(two.model.get_parameter("layer1.0.conv1.weight"))
    assert 0.1 < float(one.model.eval()(*one.example).detach().std()) < 10
