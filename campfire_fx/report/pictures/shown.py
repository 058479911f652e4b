"""A matplotlib Figure that a notebook shows by itself: without pyplot nothing else would do it."""

from __future__ import annotations

import base64
import io
from html import escape

from matplotlib.figure import Figure

from campfire_fx.report.palette import notebook_variables
from campfire_fx.report.pictures.vector import inline_svg

_PART = "campfire-fx-picture"
_DOTS = 96  # an inch of a page


class ShownFigure(Figure):
    """What every picture is."""

    def _repr_html_(self) -> str:
        """Return the figure in the colours of the page, as large as it is, its title for those who cannot see it.

        Where a page takes neither SVG nor CSS, as GitHub's of notebooks, the white image is left.
        """
        target = io.BytesIO()
        self.savefig(target, format="png", metadata={"Software": None})
        data = base64.b64encode(target.getvalue()).decode("ascii")
        title = " ".join(self.get_suptitle().split())
        size = f"max-width:100%;width:{round(_DOTS * self.get_figwidth())}px"
        return f"""<div class="{_PART}" style="{size}">
<style>
{notebook_variables(f".{_PART}")}
.{_PART} img {{ display: none }} .{_PART} svg {{ display: block; width: 100%; height: auto; font-family: sans-serif }}
</style>
<img alt="{escape(title)}" style="width:100%" src="data:image/png;base64,{data}">
{inline_svg(self, title)}
</div>"""
