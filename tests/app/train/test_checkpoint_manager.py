"""Run checkpoints: whole or not there, two of each network, and one that is damaged gives way to the one before it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from campfire_fx.app.train.checkpoint_manager import CheckpointManager, Every, every, prepare
from campfire_fx.base.disk.whole import PARTIAL, write_whole
from campfire_fx.base.errors import TrainError

FACTS = {"model": "tiny", "batch": 8, "rate": 0.1, "era": (0, 2)}


def manager_of(folder: Path, **changes: Any) -> CheckpointManager:
    return CheckpointManager(folder, FACTS | changes, Every(steps=3))


def state(value: float) -> dict[str, Any]:
    return {
        "model": {"w": torch.full((100,), float(value)), "mask": torch.ones(3, dtype=torch.bool)},
        "place": {"step": 1},
    }


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def test_what_is_restored_is_the_last_that_was_saved(tmp_path: Path) -> None:
    checkpoints = manager_of(tmp_path)
    assert checkpoints.restore("sparse") is None
    for step in (3, 12, 6_000_000):
        checkpoints.save("sparse", step, state(step))
    checkpoints.save("slim from scratch", 3, state(-1))
    assert names(tmp_path) == ["slim-from-scratch-000000003.ckpt", "sparse-000000012.ckpt", "sparse-006000000.ckpt"]
    content = manager_of(tmp_path).restore("sparse")
    assert content is not None and torch.equal(content["model"]["w"], torch.full((100,), 6e6))
    assert content["threads"] == torch.get_num_threads()
    assert manager_of(tmp_path).restore("slim") is None


def _truncate(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _flip(content: bytes) -> bytes:
    """Flip one bit of a weight."""
    place = content.index(torch.full((1,), 7.0).numpy().tobytes() * 100) + 41
    return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]


@pytest.mark.parametrize(
    "spoil",
    [_truncate, _flip, lambda content: b"", lambda content: b"\0" * len(content), lambda content: content[:-1]],
    ids=["truncated", "a bit flipped", "empty", "zeros", "last byte gone"],
)
def test_a_corrupt_checkpoint_is_named_and_the_one_before_it_used(tmp_path: Path, spoil, caplog) -> None:
    checkpoints = manager_of(tmp_path)
    checkpoints.save("sparse", 3, state(3))
    last = checkpoints.save("sparse", 6, state(7))
    last.write_bytes(spoil(last.read_bytes()))
    fresh = manager_of(tmp_path)
    content = fresh.restore("sparse")
    assert content is not None and torch.equal(content["model"]["w"], torch.full((100,), 3.0))
    assert f"Checkpoint at {last}: it is corrupt" in caplog.text
    fresh.save("sparse", 6, state(6))
    fresh.save("sparse", 9, state(9))
    assert names(tmp_path) == ["sparse-000000006.ckpt", "sparse-000000006.corrupt", "sparse-000000009.ckpt"]


def test_where_all_are_corrupt_it_says_so(tmp_path: Path) -> None:
    checkpoints = manager_of(tmp_path)
    for step in (3, 6):
        checkpoints.save("sparse", step, state(step)).write_bytes(b"no zip")
    with pytest.raises(
        TrainError, match=r"Checkpoints in .*: none of sparse can be read. Start over with --resume nev"
    ):
        checkpoints.restore("sparse")


def test_a_file_of_another_kind_is_no_checkpoint(tmp_path: Path, caplog) -> None:
    checkpoints = manager_of(tmp_path)
    torch.save({"w": torch.zeros(3)}, checkpoints.save("sparse", 3, state(3)))
    with pytest.raises(TrainError, match="none of sparse can be read"):
        checkpoints.restore("sparse")
    assert "it holds something else" in caplog.text


def test_a_run_with_other_options_is_refused(tmp_path: Path) -> None:
    manager_of(tmp_path).save("sparse", 3, state(3))
    with pytest.raises(TrainError, match=r"its run had batch 8, this one has 16. Give the same options"):
        manager_of(tmp_path, batch=16).restore("sparse")


def test_the_learning_rate_may_change(tmp_path: Path, caplog) -> None:
    manager_of(tmp_path).save("sparse", 3, state(3))
    assert manager_of(tmp_path, rate=0.01).restore("sparse") is not None
    assert "rate was 0.1 and is 0.01 now" in caplog.text


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    checkpoints = manager_of(tmp_path)
    good = checkpoints.save("sparse", 3, state(3))
    with pytest.raises(TrainError, match=rf"w of sparse after step 6: it is not finite. The last good .* is {good}."):
        checkpoints.save("sparse", 6, state(float("inf")))
    assert names(tmp_path) == ["sparse-000000003.ckpt"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def fail(file: Any) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(TrainError, match=r"File at .*x: it cannot be written \(No space left on device\)"):
        write_whole(path, fail, TrainError)
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("x", b"old")]


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("campfire_fx.base.disk.whole.os.fsync", full)
    with pytest.raises(TrainError, match=r"it cannot be written \(No space left on device\)\. Make room"):
        manager_of(tmp_path).save("sparse", 3, state(3))


def test_intervals() -> None:
    assert (every("500"), every("90s"), every("2h")) == (Every(steps=500), Every(seconds=90), Every(seconds=7200))
    for wrong in ("0", "-1", "5d", "", "1.5h"):
        with pytest.raises(TrainError, match="it is not an interval"):
            every(wrong)


def test_due_by_steps_and_by_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [step for step in range(1, 10) if manager_of(tmp_path).due(step)] == [3, 6, 9]
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    checkpoints = CheckpointManager(tmp_path, FACTS, Every(seconds=60))
    now = 1059.0
    assert not checkpoints.due(7)
    now = 1060.0
    assert checkpoints.due(8)
    checkpoints.save("sparse", 8, state(8))
    assert not checkpoints.due(9)


def test_a_run_that_was_not_finished_is_not_thrown_away(tmp_path: Path) -> None:
    prepare(tmp_path, None)
    manager_of(tmp_path).save("sparse", 3, state(3))
    (tmp_path / "checkpoints" / f"{PARTIAL}sparse-000000006.ckpt-1").write_bytes(b"half")
    with pytest.raises(TrainError, match=r"it holds an unfinished run \(sparse-000000003.ckpt\)"):
        prepare(tmp_path, None)
    prepare(tmp_path, "auto")
    assert names(tmp_path) == ["sparse-000000003.ckpt"]
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(TrainError, match=r"it holds a finished run\. Give --overwrite to replace it"):
        prepare(tmp_path, None)
    prepare(tmp_path, "never")
    assert names(tmp_path) == [] and not (tmp_path / "results.json").exists()
    manager_of(tmp_path).save("sparse", 3, state(3))
    prepare(tmp_path, "never")
    assert names(tmp_path) == []
