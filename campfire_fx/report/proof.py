"""The proof of equal outputs in a sentence, which several reports have."""

from __future__ import annotations

from rich.text import Text

from campfire_fx.analysis.plan import Verification
from campfire_fx.report.numbers import shape
from campfire_fx.report.style import STYLES


def proof_line(verification: Verification | None) -> Text:
    """Say how far outputs were from each other, and on which inputs."""
    if verification is None:
        return Text("Outputs were not compared (verify=False).", style=STYLES["report.bad"])
    runs = ", ".join(f"{shape(r.shape)} {r.dtype} {r.difference:.1e}" for r in verification.runs)
    told = f"Same output: largest relative difference {verification.difference:.1e} ({runs})."
    return Text(told, style=STYLES["report.good"])
