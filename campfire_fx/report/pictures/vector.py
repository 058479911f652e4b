"""A figure as SVG: a file, or a part of a page that has the colours of the page."""

from __future__ import annotations

import html
import io
import re
from typing import TYPE_CHECKING

from campfire_fx.report.palette import with_variables

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def svg(drawn: Figure) -> str:
    """Return a figure as SVG with text as text, the same for the same figure."""
    from matplotlib import rc_context

    target = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": drawn.get_suptitle()}):
        drawn.savefig(target, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return target.getvalue()


def inline_svg(drawn: Figure, alternative: str) -> str:
    """Return a figure as an SVG element of an HTML page that has the colours of `css_variables`.

    Args:
        drawn: the figure.
        alternative: what it shows, for those who cannot see it.
    """
    found = svg(drawn)
    named = set(re.findall(r"#([\w-]+)[)\"]", found))
    found = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", found[found.index("<svg") :], flags=re.DOTALL)
    found = re.sub(r' id="([^"]*)"', lambda one: one[0] if one[1] in named else "", found)
    found = re.sub(r' (xmlns|xmlns:xlink|version)="[^"]*"', "", found)
    found = re.sub(r"(<svg[^>]*?) width=\"[^\"]*\" height=\"[^\"]*\"", r"\1", found, count=1)
    found = re.sub(r" ?font-family: [^;\"]*;?", "", found).replace("xlink:href", "href")
    head = f'<svg role="img" aria-label="{html.escape(alternative)}"'
    return with_variables(found.replace("<svg", head, 1))
