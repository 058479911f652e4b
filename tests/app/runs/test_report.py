"""The page of a run: what it shows, that it stands alone, and what it says of runs that lack something."""

from __future__ import annotations

import dataclasses
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from campfire_fx.app.robustness import Normalisation, attack
from campfire_fx.app.runs.folder import ATTACK, read_run
from campfire_fx.app.runs.report import write_report
from campfire_fx.app.train.observers import Epoch
from campfire_fx.base.errors import ReportError, TrainError
from campfire_fx.report import pictures
from tests.app.runs.small_run import ROWS, make_run

_EMPTY = {"img", "link", "meta"}


class Reader(HTMLParser):
    """Reads a page: that its tags are closed, its links and pictures, the cells of its tables, its sections."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.pictures: list[str] = []
        self.rows: list[list[str]] = []
        self.sections: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs) -> None:
        given = dict(attrs)
        self.links += [given[name] for name in ("href", "src") if name in given and "svg" not in self.open]
        if tag == "svg":
            self.pictures.append(given["aria-label"])
        if tag == "tr":
            self.rows.append([])
        if tag not in _EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1].append(data.replace("\N{NO-BREAK SPACE}", " "))
        if self.open and self.open[-1] == "h2":
            self.sections.append(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "digits")


def page_of(folder: Path, target: Path) -> tuple[str, Reader]:
    (written,) = write_report(read_run(folder), target)
    html = written.read_text(encoding="utf-8")
    return html, Reader(html)


@pytest.fixture(scope="module")
def written(folder: Path) -> list[Path]:
    return write_report(read_run(folder), folder / "report.html", pictures_folder=folder / "png")


def test_a_whole_run_is_shown(written: list[Path]) -> None:
    html = written[0].read_text(encoding="utf-8")
    page = Reader(html)
    assert page.sections == ["Networks", "Training", "Sparsity", "Masks", "Channels", "Exported files", "Settings"]
    assert [row.name for row in ROWS] in page.rows
    assert ["accuracy", *(f"{100 * row.accuracy:.2f} %" for row in ROWS)] in page.rows
    assert ["parameters", *(f"{row.parameters:,}" for row in ROWS)] in page.rows
    assert ["layer1.0.conv1", "Conv2d", "16x16x3x3", "11x16x3x3", "16 of 16", "11 of 16"] in [r[:6] for r in page.rows]
    assert ["slim.pt2", "300,000", "2.0e-07", "449 of 449"] in page.rows
    assert ["data", "digits"] in page.rows and ["epochs", "5"] in page.rows
    assert "resnet8 on digits" in html


def test_the_page_stands_alone(written: list[Path]) -> None:
    html = written[0].read_text(encoding="utf-8")
    page = Reader(html)
    assert page.links and all(link.startswith(("data:", "#")) for link in page.links)
    assert not re.search(r"https?:|<script|@import|url\((?!#)", html)
    anchors = {link[1:] for link in page.links if link.startswith("#")}
    assert anchors == set(re.findall(r'<h2 id="([^"]+)"', html)) and len(anchors) == len(page.sections)


def test_pictures_are_those_of_the_page(written: list[Path]) -> None:
    page = Reader(written[0].read_text(encoding="utf-8"))
    assert len(page.pictures) == len(written) - 1 and all(page.pictures)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written[1:])
    assert {path.name for path in written[1:]} >= {"sparsity-course.png", "channel-survival.png", "mask-fc.png"}


def test_the_log_is_read_by_the_names_of_its_columns(folder: Path) -> None:
    log = read_run(folder).log
    assert list(log) == ["dense", "sparse"] and len(log["dense"]) == 2
    assert log["dense"][1] == Epoch(1, loss=1.5, valid=0.5, seconds=1.5, rate=0.1)
    assert log["sparse"][2] == Epoch(2, loss=1.25, valid=0.5, seconds=2.0, rate=0.1, target=0.5, sparsity=0.5625)


def test_the_masks_that_an_epoch_ends_with_are_those_of_the_next(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    course = pictures.sparsity_course
    monkeypatch.setattr(pictures, "sparsity_course", lambda moments, **rest: drawn.extend(moments) or course(moments))
    write_report(dataclasses.replace(read_run(folder), slim=None, sparse=None), tmp_path / "report.html")
    assert drawn == [
        pictures.SparsityPoint(1, 0.0, 0.0),
        pictures.SparsityPoint(2, 0.0, 0.0),
        pictures.SparsityPoint(3, 0.5, 0.5625),
    ]


def test_residuals_of_admm_are_drawn_where_the_log_has_them(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", finished=False)
    (folder / "sparse.ckpt").unlink()
    before, _ = page_of(folder, tmp_path / "report.html")
    rows = (folder / "log.csv").read_text().splitlines()
    added = ["primal,dual", ",", ",", "8.5,", "2.25,1.5", ","]
    (folder / "log.csv").write_text("\n".join(f"{row},{more}" for row, more in zip(rows, added, strict=True)))
    html, _ = page_of(folder, tmp_path / "report.html")
    assert "residual of ADMM" in html and "residual of ADMM" not in before
    epoch = read_run(folder).log["sparse"][1]
    assert (epoch.primal, epoch.dual) == (2.25, 1.5)


def test_an_unfinished_run_says_so(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "half", finished=False)
    (folder / "sparse.ckpt").unlink()
    html, page = page_of(folder, tmp_path / "report.html")
    assert "The run has not finished" in html
    assert page.sections == ["Training"]


def test_an_attack_is_part_of_the_page(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", finished=False)
    net = read_run(folder).sparse
    batches = [(torch.rand(8, 1, 16, 16), torch.arange(8))]
    record = attack({"dense": net, "slim": net}, batches, [0.1], normalisation=Normalisation((0,), (1,)))
    (folder / ATTACK).write_text(record.to_json())
    (folder / "sparse.ckpt").unlink()
    _, page = page_of(folder, tmp_path / "report.html")
    assert page.sections == ["Training", "Robustness"]
    assert ["accuracy at epsilon", "0", "0.1"] in page.rows


def test_text_is_never_read_as_html(folder: Path, tmp_path: Path) -> None:
    run = read_run(folder)
    hostile = {"data": 'a <b>bold</b> "quoted" <script>', "<td>": "</table>", "recipe": {}}
    rows = [row | {"name": f"</table><i>{i}"} for i, row in enumerate(run.results["rows"])]
    log = {"<img src=x>": run.log["dense"]}
    run = dataclasses.replace(run, results={"rows": rows, "settings": hostile}, log=log, sparse=None, slim=None)
    (written,) = write_report(run, tmp_path / "report.html")
    html = written.read_text(encoding="utf-8")
    page = Reader(html)
    assert page.sections == ["Networks", "Training", "Settings"]
    cells = [row[:2] for row in page.rows]
    assert ["</table><i>0", "</table><i>1"] in cells and ["accuracy", "98.00 %"] in cells
    assert ["<img src=x>", "2"] in cells and ["<td>", "</table>"] in cells
    assert "<script>" not in html and "<b>" not in html


def test_what_is_no_run_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="nothing in it was written by campfire-fx train"):
        read_run(tmp_path)
    with pytest.raises(ReportError, match="there is no such folder"):
        read_run(tmp_path / "none")


@pytest.mark.parametrize(("file", "text", "kind", "message"), [
    ("results.json", "{", ReportError, "they are not JSON"),
    ("results.json", "[]", ReportError, "not those of campfire-fx train"),
    ("log.csv", "network,epoch\ndense,zero\n", ReportError, "Log at .*: it cannot be read"),
    ("sparse.ckpt", "nothing", TrainError, "Checkpoint at .*"),
])  # fmt: skip
def test_broken_files_are_named(tmp_path: Path, file: str, text: str, kind, message: str) -> None:
    folder = make_run(tmp_path / "run")
    (folder / file).write_text(text)
    with pytest.raises(kind, match=message):
        read_run(folder)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", finished=False)
    (folder / "sparse.ckpt").unlink()
    with pytest.raises(ReportError, match="it cannot be written"):
        write_report(read_run(folder), tmp_path / "no" / "report.html")


def test_without_matplotlib_the_error_says_what_to_install(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ReportError, match=r'pip install "jinja2>=.*" "matplotlib>='):
        write_report(read_run(folder), tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_top5_is_in_the_table_where_it_was_counted(folder: Path, tmp_path: Path) -> None:
    run = read_run(folder)
    rows = [row | {"top5": 0.9876} for row in run.results["rows"]]
    (written,) = write_report(dataclasses.replace(run, results={**run.results, "rows": rows}), tmp_path / "five.html")
    shown = Reader(written.read_text(encoding="utf-8")).rows
    assert ["top-5", *len(rows) * ["98.76 %"]] in shown
    _, plain = page_of(folder, tmp_path / "plain.html")
    assert not any("top-5" in row for row in plain.rows)


def test_it_opens_with_the_verdict_and_shows_no_python(folder: Path, tmp_path: Path) -> None:
    run = read_run(folder)
    wishes = {"overrides": {"fc": 0.5}, "prune_stem": True, "score": None}
    settings = {**run.settings, "wishes": wishes, "recipe": {"drops": [], "era": [1, 3], "nesterov": False}}
    results = {**run.results, "settings": settings}
    (written,) = write_report(dataclasses.replace(run, results=results), tmp_path / "told.html")
    html = written.read_text(encoding="utf-8")
    opening = html[html.index("<h1>") : html.index("<h2")]
    assert 'class="verdict">34 % fewer parameters, 33 % fewer MACs, accuracy \N{MINUS SIGN}0.7' in opening
    rows = Reader(html).rows
    assert ["overrides", "fc=0.5"] in rows and ["prune stem", "yes"] in rows and ["nesterov", "no"] in rows
    assert ["era", "1, 3"] in rows and not any(row[0] in ("wishes", "score", "drops") for row in rows if row)
    text = re.sub(r"<style.*?</style>|<svg.*?</svg>", "", html, flags=re.DOTALL)
    assert not re.search(r"[{}]|None|True|False", text)


def test_long_parts_are_folded_and_dark_pages_have_colours_of_their_own(written: list[Path]) -> None:
    html = written[0].read_text(encoding="utf-8")
    masks = html[html.index(">Masks</h2>") : html.index(">Channels</h2>")]
    assert masks.index("<details>") < masks.index("<svg") and "<svg" not in masks[masks.index("</details>") :]
    light, dark = html.split("@media (prefers-color-scheme: dark)", 1)
    assert "--slim: #009E73" in light and "--slim: #2FC59A" in dark
    assert 'background: var(--slim-from-scratch)"></span>slim from scratch' in html


def test_the_config_of_the_run_is_part_of_it(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    (folder / "sparse.ckpt").unlink()
    (folder / "config.yaml").write_text("data: <digits>\n")
    html, _ = page_of(folder, tmp_path / "report.html")
    assert "<pre>data: &lt;digits&gt;\n</pre>" in html and "campfire-fx train --config run/config.yaml" in html
