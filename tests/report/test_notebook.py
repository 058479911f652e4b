"""In a notebook: every record has a repr of one line, and every report and model HTML in which all text is escaped."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import campfire_fx
from campfire_fx.base.records import Record
from campfire_fx.cost import count_flops, work_of
from campfire_fx.cost.latency_table import latency_table
from campfire_fx.cost.measure import Latency
from campfire_fx.cost.modules import module_costs
from campfire_fx.cost.runtime_times import BenchRecord, RuntimeTime
from campfire_fx.report import capture_report, coupling_report, dependency_report, latency_report, pictures
from campfire_fx.report.attack import AttackReport
from campfire_fx.report.attack_record import record_of
from campfire_fx.report.flops import FlopReport
from campfire_fx.report.modules import ModulesReport
from campfire_fx.report.runtimes import BenchReport
from campfire_fx.report.style import Report
from campfire_fx.sparsity.regimes import ENTRIES
from tests.report.small import damaged

IMAGE = torch.randn(1, 3, 16, 16)
ODD = "<i>&"


class Odd(nn.Module):
    """A network whose paths are no text for a page, with two dead channels."""

    def __init__(self) -> None:
        super().__init__()
        self.add_module(ODD, damaged())

    def forward(self, x: Tensor) -> Tensor:
        return self.get_submodule(ODD)(x)


def held(value: Any, seen: dict[int, Any]) -> Iterator[Any]:
    """Yield all dataclasses of the library in a value, itself among them."""
    if id(value) in seen:
        return
    seen[id(value)] = value
    if dataclasses.is_dataclass(value) and type(value).__module__.startswith("campfire_fx."):
        yield value
        for field in dataclasses.fields(value):
            yield from held(getattr(value, field.name), seen)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from held(item, seen)
    elif isinstance(value, dict):
        yield from held(list(value.items()), seen)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What the library returns: models, records and reports."""
    model, folder = Odd(), tmp_path_factory.mktemp("notebook")
    sparse = campfire_fx.sparsify(model, sparsity=0.5, example_inputs=IMAGE).finalize()
    slim = campfire_fx.shrink(model, IMAGE)
    coupling = campfire_fx.coupled_channels(model, IMAGE)
    captured = campfire_fx.trace(model, IMAGE)
    graph = campfire_fx.dependency_graph(captured, coupling=coupling)
    purified = campfire_fx.purify(model, IMAGE, column=0.3)
    table = latency_table(model, (IMAGE,), {}, cache=folder)
    times = BenchRecord((RuntimeTime(ODD, "torch", Latency(1.0, 0.9, 1.1, 5)),), ((1, 3, 16, 16),), 1)
    right = {"dense": torch.ones(2, 10, dtype=torch.bool), ODD: torch.zeros(2, 10, dtype=torch.bool)}
    attacked = record_of((0.0, 0.1), "raw", right, {"dense": 0, ODD: 1})
    flops = count_flops(work_of(model, (IMAGE,)), {})
    fast = campfire_fx.accelerate(slim)
    costs = module_costs(model, (IMAGE,))
    return [
        *(sparse, sparse.sparsity(), sparse.report(), slim, slim.plan, slim.verification, slim.report()),
        *(coupling, coupling_report(coupling), captured, capture_report(captured), graph, dependency_report(graph)),
        *(purified, purified.report(), table, latency_report(table), times, BenchReport(times)),
        *(attacked, AttackReport(attacked), flops, FlopReport(ODD, flops), costs, ModulesReport(costs, ())),
        *(fast, fast.acceleration, fast.report(), campfire_fx.export(slim, folder / "slim.safetensors")),
        *ENTRIES.values(),
    ]


def test_every_record_has_a_repr_of_one_line(given: list[Any]) -> None:
    seen: dict[int, Any] = {}
    records = [record for value in given for record in held(value, seen)]
    reports = {type(record).__name__ for record in records if isinstance(record, Report)}
    assert reports == {cls.__name__ for cls in Report.__subclasses__()}, "the fixture makes one report of each kind"
    assert len({type(record) for record in records}) > 40
    told = {repr(record) for record in records}
    assert {text for text in told if len(text) >= 300 or "\n" in text} == set()
    assert len(told) > 100, "they tell the records apart"


def test_a_repr_names_what_matters(given: list[Any]) -> None:
    texts = [repr(value) for value in given if isinstance(value, Record)]
    found = "\n".join(texts)
    for fact in (
        "<ShrinkPlan: 4 layers, ",
        "masks frozen",
        "<Coupling: 14 groups in 2 sets, ",
        "<Captured: Odd as one graph, ",
    ):
        assert fact in found
    assert all("print() shows all" in repr(value) for value in given if isinstance(value, Report))


class Page(HTMLParser):
    """Checks that elements are closed in order, and notes those that there are."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: set[str] = set()
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.found.add(tag)
        if tag not in ("br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_reports_models_and_graphs_are_html_with_escaped_text(given: list[Any]) -> None:
    pages = {type(value).__name__: Page(html) for value in given if (html := _html(value)) is not None}
    models = {"SparseOdd", "SlimOdd", "AcceleratedOdd", "DependencyGraph"}
    records = {"ShrinkPlan", "SparsityRecord", "Coupling", "Captured", "LatencyTable", "BenchRecord", "AttackRecord"}
    assert pages.keys() >= models | records | {cls.__name__ for cls in Report.__subclasses__()}
    assert not any("i" in page.found for page in pages.values())
    without = {"DependencyGraph", "DependencyReport", "Captured", "CaptureReport"}  # pictures, and no paths
    assert {name for name, page in pages.items() if ODD not in page.text} <= without
    assert "table" in pages["ShrinkReport"].found and "conv" in pages["SlimOdd"].text.lower()


def _html(value: Any) -> str | None:
    shown = getattr(value, "_repr_html_", None)
    return None if shown is None else shown()


def test_print_is_not_the_repr(given: list[Any]) -> None:
    reports = [value for value in given if isinstance(value, Report)]
    assert all(len(str(report)) > len(repr(report)) and "\n" in str(report) for report in reports)


def test_a_record_without_a_report_is_shown_as_text(given: list[Any]) -> None:
    verification = next(value for value in given if type(value).__name__ == "Verification")
    assert verification._repr_html_() is None
    assert repr(verification).startswith("<Verification: difference ")


def test_a_picture_is_an_image(given: list[Any]) -> None:
    pytest.importorskip("matplotlib")
    slim = next(value for value in given if isinstance(value, campfire_fx.SlimModel))
    html = pictures.channel_survival(slim.plan.layers)._repr_html_()
    assert '<img alt="Channels through the network"' in html and "base64,iVBOR" in html  # where no SVG is shown
    svg = html[html.index("<svg") :]
    assert 'aria-label="Channels through the network"' in svg and "var(--paper)" in svg and "#ffffff" not in svg
    for theme in ('[data-jp-theme-light="false"]', ".vscode-dark", "@media (prefers-color-scheme: dark)"):
        assert "--paper: #15181C" in html.partition(theme)[2].partition("}")[0]
    graph = next(value for value in given if type(value).__name__ == "DependencyGraph")
    assert "img" in Page(graph._repr_html_()).found
