"""A matplotlib Figure that a notebook shows by itself: without pyplot nothing else would do it."""

from __future__ import annotations

import base64
import io
from html import escape

from matplotlib.figure import Figure

_DOTS = 96  # an inch of a page


class ShownFigure(Figure):
    """What every picture is."""

    def _repr_html_(self) -> str:
        """Return the figure as an image of its size in a page, its title for those who cannot see it."""
        target = io.BytesIO()
        self.savefig(target, format="png", metadata={"Software": None})
        data = base64.b64encode(target.getvalue()).decode("ascii")
        title = " ".join(self.get_suptitle().split())
        style = f"max-width:100%;width:{round(_DOTS * self.get_figwidth())}px"
        return f'<img alt="{escape(title)}" style="{style}" src="data:image/png;base64,{data}">'
