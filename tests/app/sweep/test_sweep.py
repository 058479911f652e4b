"""`campfire-fx sweep`: a sweep that is killed goes on with the same command; what is known to be wrong comes first."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

import campfire_fx
from campfire_fx.app.cli import app
from campfire_fx.app.sweep.grid import Point
from campfire_fx.app.sweep.launch import Ended
from campfire_fx.app.sweep.runs import Run
from campfire_fx.app.sweep.work import work
from campfire_fx.app.train.stopping import Stopped
from campfire_fx.base.errors import TrainError
from tests.app.sweep.made import finish, runs

SMALL = "--image-size 8 --epochs 1 --batch 64 --regime ck --sparsity 0.6 --era-start 0 --era-length 1 --jobs 1".split()
ROOT = Path(campfire_fx.__file__).parents[1]


def run(*arguments: object):
    return CliRunner().invoke(app, ["sweep", *map(str, arguments)])


def test_a_killed_sweep_goes_on_with_the_same_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    told = run(*SMALL, "--list")
    assert told.exit_code == 0 and "2 to do, 1 at a time: not known before one has finished" in told.stdout
    command = [sys.executable, "-m", "campfire_fx", "sweep", *SMALL]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as killed:
        for line in killed.stdout:
            if line.startswith("1 of 2  dense, seed 0: "):
                break
        killed.send_signal(signal.SIGKILL)
    dense, sparse = (tmp_path / "runs/sweep-digits/runs" / name for name in (
        "dense-rate-0.1-cosine-seed-0", "ck-60-era-0-1-rate-0.1-cosine-seed-0"))  # fmt: skip
    written = (dense / "results.json").stat().st_mtime_ns
    assert not (sparse / "results.json").exists()

    again = run(*SMALL)
    assert again.exit_code == 0, again.stderr
    assert "2 runs, 1 to do in " in again.stdout and "2 of 2  ck 60 %, era 0 to 1, seed 0: " in again.stdout
    assert (dense / "results.json").stat().st_mtime_ns == written, "what has finished is not trained again"
    settings = json.loads((sparse / "results.json").read_text())["settings"]
    assert (settings["regime"], settings["sparsity"], settings["recipe"]["epochs"]) == ("ck", 0.6, 1)
    with (tmp_path / "runs/sweep-digits/sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["regime"] for row in rows] == ["dense", "ck"] and float(rows[1]["true_sparsity"]) == pytest.approx(
        0.6, abs=0.01
    )
    assert float(rows[1]["change_low_images"]) <= float(rows[1]["change"]) <= float(rows[1]["change_high_images"])

    done = run(*SMALL, "--json")
    assert len(json.loads(done.stdout)["finished"]) == 2 and "Written to" in done.stderr
    other = run(*SMALL, "--weight-decay", "0.5")
    assert other.exit_code == 2 and "its decay was 0.04, this sweep has 0.5." in other.stderr


def test_a_child_ends_when_the_sweep_is_gone(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "campfire_fx.app.sweep.child", "train", "--epochs", "1000"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, env=environment) as child:
        child.stdin.close()
        assert child.wait(timeout=120) in {-signal.SIGTERM, 128 + signal.SIGTERM}


@pytest.mark.parametrize(("options", "said"), [
    (["--regime", "ck,windw"], "unknown regime 'windw'. Did you mean 'window'?"),
    (["--sparsity", "0.6,1.5"], "1.5"),
    (["--epochs", 6, "--era-start", "2,4", "--era-length", "4"], "1 of 2 eras end after the last of 6 epochs (4 to 8)"),
    (["--era-start", "2"], "--era-start is given without --era-length"),
    (["--era", "2:4"], "--era: the sweep sets it itself. Leave it out, or use --era-start and --era-length"),
    (["--seed", "0,0"], "--seed: 0 is given twice"),
    (["--seed", "0,x"], "'0,x' of --seed is not a list of whole numbers"),
    (["--no-such-option", 3], "No such option"),
    (["--optimizer", "sdg"], "--optimizer sdg: it is not known"),
    (["--regime", "ck,window,combined,filter", "--sparsity", ",".join(f"0.{i:03}" for i in range(1, 501)), "--seed",
      ",".join(map(str, range(5)))], "these are 10,005 trainings (2,000 settings and 1 dense one, 5 seeds). Give "),
    (["--model", "no_such_model"], "no_such_model"),
    (["--regime", "channel,ck", "--set", "score=taylor"], "score: regime 'ck' takes none"),
    (["--random", 2], "--random 2: the grid has 1 combinations"),
])  # fmt: skip
def test_what_is_known_to_be_wrong_is_refused_before_the_first_run(
    options: Sequence[object], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*options)
    told = " ".join(result.stderr.replace("│", " ").split())
    assert result.exit_code == 2 and said in told, told
    assert not (tmp_path / "runs").exists()


class Made:
    """A launcher that trains nothing; each run ends with the code that it is given."""

    at_once = 2

    def __init__(self, code: Callable[[Run], int]) -> None:
        self.code = code
        self.closed = False

    def launch(self, left: Sequence[Run]) -> Generator[Ended, None, None]:
        try:
            for one in left:
                if not self.code(one):
                    finish(one, 300)
                yield Ended(one, self.code(one), 61.0, "Error: out of memory.")
        finally:
            self.closed = True


def test_what_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    made = runs([Point(None), Point("ck", 0.6, (0, 2)), Point("ck", 0.6, (0, 4)), Point("ck", 0.8, (0, 2))], tmp_path)
    said: list[str] = []
    launcher = Made(lambda run: int(run.point.era == (0, 4)))
    with pytest.raises(
        TrainError, match=r"1 of 4 runs failed, the first is ck-60-era-0-4.*: Error: out of memory\. Fix it"
    ):
        work(made, tmp_path, launcher, said.append)
    assert launcher.closed and said[2].startswith(
        "ck-60-era-0-4-rate-0.1-cosine-seed-0: failed (Error: out of memory.)."
    )
    assert said[0] == "1 of 4  dense, seed 0: 75.00 % in 61 s; 3 left, 2 minutes"
    state = work(made, tmp_path, Made(lambda run: 0), said.append)
    assert (
        len(state.finished) == 4
        and len(said) == 5
        and said[-1] == "4 of 4  ck 60 %, era 0 to 4, seed 0: 75.00 % in 61 s"
    )


def test_a_signal_stops_what_runs(tmp_path: Path) -> None:
    made = runs([Point(None), Point("ck", 0.6, (0, 2))], tmp_path)
    launcher = Made(lambda run: 0)

    def stop(_line: str) -> None:
        raise Stopped(signal.SIGTERM, "Stopped.")

    with pytest.raises(Stopped):
        work(made, tmp_path, launcher, stop)
    assert launcher.closed and [one.finished for one in made] == [True, False]
