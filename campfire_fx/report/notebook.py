"""How reports look in a notebook: their tables and sentences as HTML, in the colours of its theme, light or dark."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from rich.console import Group
from rich.text import Text

from campfire_fx.analysis.captured import Captured
from campfire_fx.analysis.plan import ShrinkPlan
from campfire_fx.base.records import Record
from campfire_fx.cost.acceleration_record import Acceleration
from campfire_fx.cost.latency_record import LatencyTable
from campfire_fx.cost.runtime_times import BenchRecord
from campfire_fx.layers.dressing import Dress
from campfire_fx.report.acceleration import AccelerationReport
from campfire_fx.report.attack import AttackReport
from campfire_fx.report.attack_record import AttackRecord
from campfire_fx.report.capture import CaptureReport
from campfire_fx.report.coupling import CouplingReport
from campfire_fx.report.latency import LatencyReport
from campfire_fx.report.runtimes import BenchReport
from campfire_fx.report.shrink import plan_report
from campfire_fx.report.sparsity import SparsityReport
from campfire_fx.report.style import STYLES, Report, plain
from campfire_fx.report.table import FittedTable
from campfire_fx.sparsity.channels.coupling import Coupling
from campfire_fx.sparsity.record import SparsityRecord

_REPORTS: Mapping[type[Record], Any] = {
    Acceleration: lambda record: AccelerationReport(record, None),
    AttackRecord: AttackReport,
    BenchRecord: BenchReport,
    Captured: CaptureReport,
    Coupling: CouplingReport,
    LatencyTable: LatencyReport,
    ShrinkPlan: plan_report,
    SparsityRecord: SparsityReport,
}
"""The report of each record that has one."""

# Colours that are legible on white and on black. What a theme has already (text, background) is left to it.
_COLOURS = {STYLES["report.good"]: "#2a9d55", STYLES["report.bad"]: "#d9483b"}
_BEHIND = "var(--jp-layout-color0, var(--vscode-editor-background, Canvas))"
_STYLE = f"""<style>
.campfire-fx .rows {{ overflow: auto; max-height: 48em; margin: 0 0 .9em }}
.campfire-fx table {{ border-collapse: collapse; margin: 0 }}
.campfire-fx caption {{ caption-side: top; text-align: left; font-weight: 600; padding: .3em 0; color: inherit }}
.campfire-fx th, .campfire-fx td {{ padding: .2em .7em; text-align: right; vertical-align: top; white-space: nowrap }}
.campfire-fx thead th {{ position: sticky; top: 0; background: {_BEHIND}; vertical-align: bottom }}
.campfire-fx tfoot td {{ position: sticky; bottom: 0; background: {_BEHIND}; font-weight: 600; border-top: 1px solid }}
.campfire-fx p {{ margin: .25em 0; max-width: 75em }}
.campfire-fx .note {{ opacity: .75 }}
</style>"""

# Said at each cell: the themes of some notebooks align all of them to the right.
_LEFT = ' style="text-align:left"'
_WRAPS = ' style="text-align:left;white-space:normal;min-width:14em;max-width:40em"'


def html_of(record: Any) -> str | None:
    """Return the HTML of a report, or of a record or model that has one; None for others."""
    if isinstance(record, Report):
        return html(record)
    if isinstance(record, Dress):
        return html(record._overview(), folded={"Modules": repr(record)})
    report = _REPORTS.get(type(record))
    return None if report is None else html(report(record), folded=_folded(record))


def _folded(record: Any) -> dict[str, str]:
    """Return the code of captured graphs, which is too long to be shown at once."""
    if not isinstance(record, Captured):
        return {}
    return {f"Code of {island.path or 'the graph'}": island.module.code for island in record.islands}


def html(content: Any, *, folded: Mapping[str, str] | None = None) -> str:
    """Return what a report draws as HTML that can stand in a page of any colours; all text is escaped.

    Args:
        content: a report, or whatever rich can draw: tables and sentences become HTML, other things plain text.
        folded: titles and texts that are shown when their title is clicked.
    """
    below = (
        f"<details><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>"
        for title, text in (folded or {}).items()
    )
    return "\n".join(['<div class="campfire-fx">', _STYLE, *_parts(content), *below, "</div>"])


def _parts(content: Any) -> Iterator[str]:
    if isinstance(content, Report):
        drawn = content.picture()
        yield from _parts(content.__rich__()) if drawn is None else [drawn._repr_html_()]
    elif isinstance(content, Group):
        for part in content.renderables:
            yield from _parts(part)
    elif isinstance(content, FittedTable):
        yield from _table(content)
    elif isinstance(content, (Text, str)):
        yield _sentence(content)
    else:
        yield f"<pre>{escape(plain(content))}</pre>"


def _sentence(text: Text | str) -> str:
    style = str(text.style) if isinstance(text, Text) else ""
    colour = f' style="color:{_COLOURS[style]}"' if style in _COLOURS else ""
    note = ' class="note"' if style == STYLES["report.note"] else ""
    return f"<p{note}{colour}>{escape(str(text))}</p>"


def _table(table: FittedTable) -> Iterator[str]:
    """Yield a table with all of its columns: a page scrolls."""
    shown = table.filled()
    looks = {i: _WRAPS if table.columns[i].wraps else "" if table.columns[i].right else _LEFT for i in shown}

    def line(cells: Any, kind: str) -> str:
        told = (f"<{kind}{looks[i]}>{escape(cells[i]).replace(chr(10), '<br>')}</{kind}>" for i in shown)
        return f"<tr>{''.join(told)}</tr>"

    yield f'<div class="rows"><table><caption>{escape(table.title)}</caption>'
    yield f"<thead>{line([column.header for column in table.columns], 'th')}</thead>"
    yield f"<tbody>{''.join(line(row, 'td') for row in table.rows)}</tbody>"
    yield f"<tfoot>{line(table.total, 'td')}</tfoot></table></div>" if table.total else "</table></div>"
