"""Times that were measured are kept: by what they depend on, whatever the state of the folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from campfire_fx.base.disk.cache import cache_folder
from campfire_fx.cost.latency_cache import keep_times, kept_times
from campfire_fx.cost.latency_record import Setting
from campfire_fx.cost.latency_table import latency_table, setting_of
from tests.cost.timed import IMAGE, Clock, Plain, use

ROOT = Path(__file__).parents[2]
SETTING = Setting("a processor", 1, "2.0", "")
WRITES = """
import sys
from pathlib import Path
from campfire_fx.cost.latency_cache import keep_times
from campfire_fx.cost.latency_record import Setting
for index in range(10):
    keep_times(Path(sys.argv[1]), Setting("a processor", 1, "2.0", ""), {f"{sys.argv[2]} {index}": 1.0})
"""


class Never:
    """A clock that must not be asked."""

    def measure(self, points: list[object], others: dict[str, object], device: torch.device) -> dict[str, float]:
        assert not points and not others, "it was measured before"
        return {}


def test_a_second_table_of_the_same_model_is_not_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(monkeypatch, Clock())
    first = latency_table(Plain(), (IMAGE,), cache=tmp_path)
    use(monkeypatch, Never())  # type: ignore[arg-type]
    assert latency_table(Plain(), (IMAGE,), cache=tmp_path) == first


def test_what_another_model_has_in_common_is_not_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    conv = nn.Conv2d(3, 16, 3)
    use(monkeypatch, Clock())
    latency_table(conv, (IMAGE,), cache=tmp_path)
    clock = use(monkeypatch, Clock())
    latency_table(nn.Sequential(conv, nn.ReLU(), nn.Conv2d(16, 4, 1)), (IMAGE,), cache=tmp_path)
    assert {point.call.outputs for point in clock.asked} == {4}


def test_other_settings_are_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(monkeypatch, Clock())
    latency_table(Plain(), (IMAGE,), cache=tmp_path)
    for image, dtype in ((IMAGE[:1], torch.float32), (IMAGE, torch.float64)):
        clock = use(monkeypatch, Clock())
        latency_table(Plain().to(dtype), (image.to(dtype),), cache=tmp_path)
        assert len(clock.asked) > 40
    clock = use(monkeypatch, Clock())
    with torch.autocast("cpu", torch.bfloat16):
        latency_table(Plain(), (IMAGE,), cache=tmp_path)
    assert len(clock.asked) > 40
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    assert setting_of(torch.device("cpu")).threads == 77


def test_no_cache_keeps_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CAMPFIRE_FX_CACHE", str(tmp_path / "named"))
    use(monkeypatch, Clock())
    latency_table(Plain(), (IMAGE,), cache=False)
    assert not (tmp_path / "named").exists()
    latency_table(Plain(), (IMAGE,))
    assert len(list((tmp_path / "named").glob("*.json"))) == 1


def test_the_folder_is_the_users_unless_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMPFIRE_FX_CACHE", "/named")
    assert cache_folder() == Path("/named")
    monkeypatch.delenv("CAMPFIRE_FX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert cache_folder() == Path("/cache/campfire_fx")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path("~/.cache/campfire_fx")


@pytest.mark.parametrize(
    "spoilt",
    [b"", b"\xff\xfe", b"{", b"[]", b"null", b'{"setting": 1}', b'{"setting": null, "ms": {"a": 1}}', b"[" * 100_000],
)
def test_a_spoilt_file_is_measured_anew_and_written_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, spoilt: bytes
) -> None:
    use(monkeypatch, Clock())
    first = latency_table(Plain(), (IMAGE,), cache=tmp_path)
    (file,) = tmp_path.glob("*.json")
    file.write_bytes(spoilt)
    clock = use(monkeypatch, Clock())
    assert latency_table(Plain(), (IMAGE,), cache=tmp_path) == first and clock.asked
    use(monkeypatch, Never())  # type: ignore[arg-type]
    assert latency_table(Plain(), (IMAGE,), cache=tmp_path) == first


@pytest.mark.parametrize("value", ["NaN", "-1", "Infinity"])
def test_times_that_are_none_are_left_out(tmp_path: Path, value: str) -> None:
    keep_times(tmp_path, SETTING, {"good": 1.5, "bad": 2.5})
    (file,) = tmp_path.glob("*.json")
    file.write_text(file.read_text().replace("2.5", value))
    assert kept_times(tmp_path, SETTING) == {"good": 1.5}


@pytest.mark.parametrize("value", ['"1"', "null", "[]", "true"])
def test_a_file_with_other_things_than_numbers_holds_no_such_time(tmp_path: Path, value: str) -> None:
    keep_times(tmp_path, SETTING, {"good": 1.5, "bad": 2.5})
    (file,) = tmp_path.glob("*.json")
    file.write_text(file.read_text().replace("2.5", value))
    assert "bad" not in kept_times(tmp_path, SETTING)


def test_a_folder_that_cannot_be_written_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    blocked = tmp_path / "file" / "cache"
    blocked.parent.write_text("no folder")
    use(monkeypatch, Clock())
    table = latency_table(Plain(), (IMAGE,), cache=blocked)
    assert table.whole_ms == 100 and blocked.parent.read_text() == "no folder"


def test_what_is_written_says_what_it_was_measured_on(tmp_path: Path) -> None:
    keep_times(tmp_path, SETTING, {"a": 1.0})
    (file,) = tmp_path.glob("*.json")
    assert json.loads(file.read_text())["setting"]["device"] == "a processor"
    assert kept_times(tmp_path, Setting("another", 1, "2.0", "")) == {}


def test_two_processes_at_once_lose_nothing(tmp_path: Path) -> None:
    running = [
        subprocess.Popen([sys.executable, "-c", WRITES, str(tmp_path), name], cwd=ROOT) for name in ("one", "two")
    ]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    expected = {f"{name} {index}": 1.0 for name in ("one", "two") for index in range(10)}
    assert kept_times(tmp_path, SETTING) == expected
