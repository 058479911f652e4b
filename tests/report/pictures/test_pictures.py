"""Pictures show the numbers they were given, name their axes, and leave matplotlib's global state alone."""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import torch

import campfire_fx
from campfire_fx.analysis.plan import LayerChange
from campfire_fx.app.robustness import AttackRecord, Curve
from campfire_fx.base.errors import ReportError
from campfire_fx.report import palette, pictures
from campfire_fx.report.intervals import Interval, of_share
from campfire_fx.report.palette import css_variables
from campfire_fx.report.pictures import Residuals, Sized, SparsityPoint
from campfire_fx.report.pictures.mask_grid import DEAD, KEPT, ZERO, kinds_of
from tests.report.small import Small, damaged

MOMENTS = [SparsityPoint(e, e / 10, e / 10 + 0.01, e / 20, e / 30) for e in range(6)]
NETWORKS = [Sized("dense", 95, 100, 800), Sized("slim", 94, 100, 500), Sized("slim from scratch", 90, 100, 500)]
ZERO_DIFFERENCES = (Interval(0, 0, 0),) * 3
ATTACKED = AttackRecord((0.0, 0.1, 0.2), "raw", 50, (
    Curve("dense", (49, 20, 5), 0, ZERO_DIFFERENCES), Curve("slim", (48, 21, 4), 0, ZERO_DIFFERENCES),
))  # fmt: skip


def sparse_record():
    torch.manual_seed(0)
    sparse = campfire_fx.sparsify(Small(), sparsity=0.5, example_inputs=torch.randn(1, 3, 16, 16))
    return sparse.finalize().sparsity()


def change(name: str, before: int, after: int) -> LayerChange:
    return LayerChange(name, "Conv2d", (before, 3, 3, 3), (after, 3, 3, 3), (3, 2), (before, after), 0, 0, 0, 0, "")


def lines(figure) -> dict[str, tuple[list[float], list[float]]]:
    """The labelled lines of the first axes: name -> (x, y)."""
    found = {line.get_label(): line for line in figure.axes[0].get_lines()}
    return {name: (list(line.get_xdata()), list(line.get_ydata())) for name, line in found.items()}


def bars(figure, label: str) -> list[float]:
    group = next(c for c in figure.axes[0].containers if c.get_label() == label)
    return [bar.get_width() for bar in group]


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def told(figure) -> str:
    """The line below the title, however it is broken."""
    return " ".join(text.get_text() for text in figure.texts if text is not figure._suptitle).replace("\n", " ")


UPDATES = [Residuals(1, 8.0), Residuals(2, 2.0, 1.0), Residuals(3, 0.5, 0.0)]
FIGURES = {
    "sparsity": lambda: pictures.sparsity_course(MOMENTS, era=(1, 4)),
    "residuals": lambda: pictures.residual_course(UPDATES, era=(1, 4)),
    "training": lambda: pictures.training_course({"dense": [(0, 0.5), (1, 0.75)]}),
    "layers": lambda: pictures.layer_sparsity(sparse_record()),
    "mask": lambda: pictures.mask_grid(torch.arange(432).view(8, 6, 3, 3) % 5 > 1, name="conv"),
    "channels": lambda: pictures.channel_survival([change("a", 8, 5), change("b", 16, 16)]),
    "size": lambda: pictures.size_tradeoff(NETWORKS),
    "attack": lambda: pictures.robustness_curves(ATTACKED),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_picture_names_its_axes_and_becomes_a_png(name: str, tmp_path: Path) -> None:
    figure = FIGURES[name]()
    axes = figure.axes[0]
    assert axes.get_xlabel() and axes.get_ylabel() and figure.get_suptitle().strip()
    assert figure.get_figwidth() == 4.6
    path = pictures.save(figure, tmp_path / "picture.png")
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG") and int.from_bytes(content[16:20], "big") == 920
    assert pictures.png(FIGURES[name]()) == content  # nothing of the hour or the machine is in it


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_is_cut_off(name: str) -> None:
    figure = FIGURES[name]()
    figure.canvas.draw()
    page = figure.bbox
    for text in [
        *figure.axes[0].texts,
        figure.axes[0].xaxis.label,
        figure.axes[0].yaxis.label,
        *figure.texts,
        figure._suptitle,
    ]:
        box = text.get_window_extent()
        assert box.x0 >= page.x0 - 1 and box.x1 <= page.x1 + 1, text.get_text()
        assert box.y0 >= page.y0 - 1 and box.y1 <= page.y1 + 1, text.get_text()


def test_sparsity_lines_are_the_moments() -> None:
    drawn = lines(pictures.sparsity_course(MOMENTS, era=(1, 4)))
    epochs = [0, 1, 2, 3, 4, 5]
    for name, field in (("target", "target"), ("true", "true"), ("dead kernels", "kernels"),
                        ("zeros inside live kernels", "window")):  # fmt: skip
        assert drawn[name] == (epochs, [100 * getattr(moment, field) for moment in MOMENTS])


def test_what_was_not_recorded_is_not_drawn() -> None:
    drawn = lines(pictures.sparsity_course([SparsityPoint(0, 0.0), SparsityPoint(1, 0.5, 0.4)]))
    assert drawn["true"] == ([1], [40.0])
    assert "dead kernels" not in drawn


def test_residuals_are_drawn_where_there_are_some_on_a_logarithmic_axis() -> None:
    figure = pictures.residual_course(UPDATES)
    assert list(lines(figure).values()) == [([1, 2, 3], [8.0, 2.0, 0.5]), ([2], [1.0])]
    assert figure.axes[0].get_yscale() == "log"


def test_training_lines_are_in_percent_for_accuracy_and_as_given_for_loss() -> None:
    values = {"dense": [(0, 0.5), (1, 0.75)], "sparse": [(0, 0.25)]}
    assert lines(pictures.training_course(values))["dense"] == ([0, 1], [50.0, 75.0])
    figure = pictures.training_course(values, what="loss")
    assert lines(figure)["sparse"] == ([0], [0.25])
    assert "nats" in figure.axes[0].get_ylabel()


def test_layer_bars_add_up_to_the_true_sparsity() -> None:
    record = sparse_record()
    figure = pictures.layer_sparsity(record)
    dead, inside = bars(figure, "in dead kernels"), bars(figure, "zeros inside live kernels")
    assert [d + i for d, i in zip(dead, inside, strict=True)] == pytest.approx([100 * la.true for la in record.layers])
    assert dead == pytest.approx([100 * la.dead_kernels / la.kernels for la in record.layers])
    assert sum(inside) > 1 and sum(dead) > 1
    axes = figure.axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [layer.name for layer in record.layers]
    targets = next(c for c in axes.collections if c.get_label() == "target").get_offsets()
    assert list(targets[:, 0]) == [100 * layer.target for layer in record.layers if not layer.reason]
    assert texts(figure) == [f"{100 * la.true:.1f} %" if la.zeros else "dense" for la in record.layers]
    assert "dense" in texts(figure)


def test_names_of_many_layers_are_thinned_out() -> None:
    figure = pictures.channel_survival([change(f"layer{i}", 8, 4) for i in range(300)])
    names = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert names[:2] == ["layer0", "layer4"] and len(names) == 75
    assert len(bars(figure, "after")) == 300 and figure.get_figheight() <= 14


def test_kinds_of_weights() -> None:
    mask = torch.ones(2, 2, 2, 2, dtype=torch.bool)
    mask[0, 1] = False
    mask[1, 1, 0] = False
    expected = np.array([[KEPT] * 4, [DEAD] * 4, [KEPT] * 4, [ZERO, ZERO, KEPT, KEPT]]).reshape(2, 2, 2, 2)
    assert np.array_equal(kinds_of(mask), expected)
    assert kinds_of(torch.ones(3, 4)).shape == (3, 4, 1, 1)
    assert kinds_of(torch.ones(3, 4, 5)).shape == (3, 4, 1, 5)
    assert kinds_of(torch.ones(3, 4, 2, 5, 6)).shape == (3, 4, 10, 6)


def test_each_point_of_a_mask_is_its_weight() -> None:
    mask = torch.rand(5, 4, 3, 3) > 0.6
    mask[2] = False
    image = pictures.mask_grid(mask).axes[0].get_images()[0].get_array()
    kinds = kinds_of(mask)
    for k, c, r, s in np.ndindex(5, 4, 3, 3):
        assert image[k * 20 + r * 6 + 3, c * 20 + s * 6 + 3] == kinds[k, c, r, s]
    assert bool((image[18:20] == 3).all())


def test_the_line_above_a_mask_counts_what_is_dead() -> None:
    mask = torch.ones(4, 2, 3, 3, dtype=torch.bool)
    mask[0] = False
    mask[1, 0] = False
    assert told(pictures.mask_grid(mask)) == "4x2x3x3: 37.5 % zero; 3 of 8 kernels and 1 of 4 filters dead"
    assert told(pictures.mask_grid(mask[:, :, 0, 0])) == "4x2: 37.5 % zero; 1 of 4 filters dead"


def test_few_channels_are_drawn_across_and_many_are_cut() -> None:
    figure = pictures.mask_grid(torch.ones(16, 1, 3, 3, dtype=torch.bool), name="stem")
    assert figure.axes[0].get_xlabel().startswith("filter")
    figure = pictures.mask_grid(torch.ones(100, 70, 1, 1, dtype=torch.bool), most=10)
    assert figure.axes[0].get_images()[0].get_array().shape == (80, 80)
    assert "shown: the first 10 filters and 10 channels" in told(figure)


def test_channel_bars_are_those_of_the_plan() -> None:
    slim = campfire_fx.shrink(damaged(), torch.randn(1, 3, 16, 16))
    layers = slim.plan.layers
    figure = pictures.channel_survival(layers)
    assert bars(figure, "before") == [layer.outputs[0] for layer in layers]
    assert bars(figure, "after") == [layer.outputs[1] for layer in layers]
    assert "4 of 6" in texts(figure) and "all 8" in texts(figure)
    inputs = pictures.channel_survival(layers, side="inputs")
    assert bars(inputs, "after") == [layer.inputs[1] for layer in layers]


def test_points_are_where_size_and_accuracy_say() -> None:
    figure = pictures.size_tradeoff(NETWORKS)
    for network, container in zip(NETWORKS, figure.axes[0].containers, strict=True):
        point, _, (bar,) = container.lines
        share = of_share(network.right, network.images)
        assert (list(point.get_xdata()), list(point.get_ydata())) == ([network.size], [100 * share.value])
        assert bar.get_segments()[0][:, 1] == pytest.approx([100 * share.low, 100 * share.high])
    assert figure.axes[0].get_xscale() == "linear"
    assert pictures.size_tradeoff([*NETWORKS, Sized("big", 9, 10, 1e6)]).axes[0].get_xscale() == "log"


def test_attack_lines_are_the_accuracies() -> None:
    figure = pictures.robustness_curves(ATTACKED)
    drawn = lines(figure)
    assert drawn["dense"] == ([0.0, 0.1, 0.2], [98.0, 40.0, 10.0])
    assert drawn["slim"] == ([0.0, 0.1, 0.2], [96.0, 42.0, 8.0])
    assert "from 0 to 1" in figure.axes[0].get_xlabel()


def test_epsilons_are_marked_where_there_is_room() -> None:
    axes = pictures.robustness_curves(ATTACKED).axes[0]
    assert list(axes.get_xticks()) == [0.0, 0.1, 0.2]
    close = dataclasses.replace(ATTACKED, epsilons=(0.0, 0.001, 0.2))
    assert 0.001 not in pictures.robustness_curves(close).axes[0].get_xticks()


@pytest.mark.parametrize("name", FIGURES)
def test_in_a_page_every_colour_is_one_of_the_palette(name: str, tmp_path: Path) -> None:
    drawn = pictures.inline_svg(FIGURES[name](), 'what it "shows"')
    assert drawn == pictures.inline_svg(FIGURES[name](), 'what it "shows"')  # nothing is random
    assert drawn.startswith('<svg role="img" aria-label="what it &quot;shows&quot;" viewBox=')
    assert not re.search(r"#[0-9a-fA-F]{6}\b|https?:|<style|font-family", drawn)
    used = set(re.findall(r"var\(--([\w-]+)\)", drawn))
    defined = set(re.findall(r"--([\w-]+):", css_variables()))
    assert {"ink", "paper"} < used <= defined
    assert FIGURES[name]().get_suptitle().strip() in drawn  # as text, which can be read and searched
    assert set(re.findall(r"url\(#(\w+)\)", drawn)) <= set(re.findall(r' id="(\w+)"', drawn))
    ET.parse(pictures.save(FIGURES[name](), tmp_path / "picture.svg"))


def test_colours_are_told_apart_on_both_kinds_of_pages() -> None:
    """Networks and others by contrast with the page (WCAG), and no colour means two things."""
    every = [*palette.NETWORKS.values(), *palette.WEIGHTS.values(), *palette.OTHERS.values(), *palette.PAGE.values()]
    assert len({colour.light for colour in every}) == len(every)
    for kind in ("light", "dark"):
        page = getattr(palette.PAGE["paper"], kind)
        for colour in (*palette.NETWORKS.values(), *palette.OTHERS.values()):
            assert contrast(getattr(colour, kind), page) > 2.9, colour
        for name in ("ink", "soft", "link"):
            assert contrast(getattr(palette.PAGE[name], kind), page) > 4.5, name


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        linear = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_a_network_of_a_run_has_one_colour_in_all_pictures() -> None:
    alone = pictures.training_course({"slim from scratch": [(0, 0.5)], "mine": [(0, 0.5)]})
    colours = {line.get_label(): line.get_color() for line in alone.axes[0].get_lines()}
    point = pictures.size_tradeoff(NETWORKS).axes[0].containers[2].lines[0]
    assert colours["slim from scratch"] == point.get_color() != colours["mine"]


@pytest.mark.parametrize(("draw", "text"), [
    (lambda: pictures.sparsity_course([]), "no epoch was recorded"),
    (lambda: pictures.residual_course([]), "no update of ADMM was recorded"),
    (lambda: pictures.training_course({"dense": []}), "no accuracy was recorded"),
    (lambda: pictures.channel_survival([]), "holds no layer"),
    (lambda: pictures.size_tradeoff([]), "Give measured ones"),
    (lambda: pictures.size_tradeoff([Sized("a", 1, 2, 0)]), "Give measured ones"),
    (lambda: pictures.mask_grid(torch.ones(3), name="bias"), "Mask of bias: shape \\(3,\\)"),
    (lambda: pictures.robustness_curves(AttackRecord((0.0,), "raw", 1, ())), "holds no network"),
    (lambda: pictures.save(FIGURES["training"](), "picture.jpg"), "pictures are PNG or SVG"),
    (lambda: pictures.save(FIGURES["training"](), "no/such/folder.png"), "cannot be written"),
])  # fmt: skip
def test_what_cannot_be_drawn_is_told(draw, text: str) -> None:
    with pytest.raises(ReportError, match=text):
        draw()


@pytest.mark.parametrize("name", FIGURES)
def test_pyplot_is_never_touched(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it fails
    assert pictures.png(FIGURES[name]())


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert not pictures.installed()
    with pytest.raises(ReportError, match=r'not installed. Run pip install "jinja2>=.*" "matplotlib>='):
        pictures.training_course({"a": [(0, 0.5)]})
