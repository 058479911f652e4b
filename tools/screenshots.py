"""Make the documentation's pictures of a run: a terminal while it trains, and its report in a browser.

    python tools/screenshots.py                           # trains on the digits, for minutes; into docs/pictures/
    python tools/screenshots.py --run runs/digits         # the report of a run that is there
    python tools/screenshots.py -- --data cifar10 --epochs 3    # options of campfire-fx train

Needs Chromium on the PATH, the extras `train` and `plot`, and for the terminal the package pyte, which reads what a
program writes to a terminal as a terminal does.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import io
import itertools
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.style import Style
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"
COLUMNS, LINES = 96, 34
PAGES = {"phone": (390, 1500), "desk": (1200, 1500)}  # widths that pages are made for, and how much is shown
SCHEMES = {"dark": 0, "light": 1}  # Blink's PreferredColorScheme
COLOURS = 160  # of a PNG: the pages have few
DOING = re.compile(r"sparse, epoch (\d+) of (\d+) .* (\d+)/(\d+) loss")
YELLOW = "brown"  # pyte's name of it


def main() -> int:
    """Make the pictures, and name them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a run that is there; default: train one")
    parser.add_argument("--output", type=Path, default=PICTURES)
    parser.add_argument("train", nargs="*", help="options of campfire-fx train")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        run = options.run
        if run is None:
            run = Path(place) / "digits"
            print(record([*options.train, "--output", str(run)], options.output / "train.svg"))
        for path in photograph(run, Path(place) / "report.html", options.output):
            print(path)
    return 0


def record(arguments: Sequence[str], path: Path) -> Path:
    """Train in a terminal, and draw it as SVG as it is while the sparse network trains."""
    import pyte

    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(screen)
    taken = False
    for written in terminal([sys.executable, "-m", "campfire_fx", "train", *arguments]):
        stream.feed(written)
        if not taken and is_halfway("\n".join(screen.display)):
            taken = True
            draw(screen, path)
    if not taken:
        raise SystemExit("Terminal: it never showed the middle of the sparse network's training. Give more --epochs.")
    return path


def is_halfway(shown: str) -> bool:
    """Say whether a terminal shows the sparse network in the middle of an epoch in the middle of its training."""
    found = DOING.search(shown)
    if found is None:
        return False
    epoch, epochs, step, steps = map(int, found.groups())
    return 2 * epoch >= epochs and steps < 3 * step < 2 * steps


def terminal(command: Sequence[str]) -> Iterator[bytes]:
    """Run a command in a terminal of its own, and yield what it writes, as it comes."""
    here, there = pty.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    environment = {**kept, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdin=there, stdout=there, stderr=there, env=environment, cwd=ROOT)
    os.close(there)
    try:
        with contextlib.suppress(OSError):  # the other end is closed: it has ended
            while written := os.read(here, 4096):
                yield written
        process.wait()
    finally:
        process.terminate()
        os.close(here)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: it ended with exit code {process.returncode}.")


def draw(screen: Any, path: Path) -> Path:
    """Draw what a terminal shows."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    rows = [drawn_row(screen.buffer[y]) for y in range(LINES)]
    while rows and not rows[-1].plain:
        rows.pop()
    for row in rows:
        console.print(row, no_wrap=True, crop=True)
    svg = console.export_svg(title="campfire-fx train", unique_id=path.stem)
    path.write_text(re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL), encoding="utf-8")  # from the net
    return path


def drawn_row(row: Any) -> Text:
    """Return a row of a terminal as text with its colours."""
    text = Text()
    for (ink, bold), cells in itertools.groupby((row[x] for x in range(COLUMNS)), lambda cell: (cell.fg, cell.bold)):
        text.append("".join(cell.data for cell in cells), Style(color=colour(ink), bold=bold))
    text.rstrip()
    return text


def colour(name: str) -> str | None:
    """Return a colour of pyte's as rich names it."""
    if name == "default":
        return None
    if re.fullmatch(r"[0-9a-f]{6}", name):
        return f"#{name}"
    return name.replace(YELLOW, "yellow").replace("bright", "bright_")


def photograph(run: Path, page: Path, folder: Path) -> Iterator[Path]:
    """Write the report of a run, and take pictures of its beginning: on a telephone and wide, light and dark."""
    from PIL import Image

    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("Chromium: it is not on the PATH. Install it, as by apt install chromium.")
    command = [sys.executable, "-m", "campfire_fx", "report", str(run.resolve()), "--output", str(page)]
    subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    for name, (width, height) in PAGES.items():
        for scheme, number in SCHEMES.items():
            path = folder / f"report-{name}-{scheme}.png"
            looks = (f"--blink-settings=preferredColorScheme={number}", f"--window-size={width},{height}")
            fixed = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--screenshot={path}")
            subprocess.run([browser, *fixed, *looks, page.as_uri()], check=True, capture_output=True)
            with Image.open(path) as taken:
                taken.convert("RGB").quantize(COLOURS).save(path, optimize=True)
            yield path


if __name__ == "__main__":
    sys.exit(main())
