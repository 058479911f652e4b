"""`campfire-fx regimes`: the list, its search, one in full, and JSON."""

from __future__ import annotations

import json

import pytest

from campfire_fx.sparsity import REGIMES


def test_all_are_listed_and_searched(run) -> None:
    told = run("regimes")
    assert told.exit_code == 0 and all(f" {name} " in told.stdout for name in REGIMES)
    found = json.loads(run("regimes", "kernels of", "ADMM", "--json").stdout)
    assert [one["name"] for one in found] == ["admm-kernel"]
    found = json.loads(run("regimes", "--family", "dynamic", "--json").stdout)
    assert {"rigl", "set"} <= {one["name"] for one in found} and {one["family"] for one in found} == {"dynamic"}


@pytest.mark.parametrize("name", [*REGIMES, "1:4"])
def test_one_is_shown_in_full(run, name: str) -> None:
    known = json.loads(run("regimes", name, "--json").stdout)
    told = " ".join(run("regimes", name).stdout.split())
    assert known["name"] == ("n:m" if name == "1:4" else name)
    assert known["granularity"] in told and all(f"{setting}=" in told for setting in known["settings"])
    assert f"train --regime {'2:4' if name == 'n:m' else name}" in told
    assert all(f"arxiv.org/abs/{number}" in told for number in known["arxiv"])


def test_what_is_said_of_a_regime_is_read_from_its_parts(run) -> None:
    def said(name: str) -> tuple[list[str], str, bool]:
        known = json.loads(run("regimes", name, "--json").stdout)
        return known["prunes"], known["sparse"], known["weights_return"]

    assert said("block-fc") == (["linear layers"], "gradually over the era", False)
    assert said("admm-kernel") == (["convolutions", "1x1 convolutions"], "when the era ends", False)
    assert said("rigl")[1:] == ("from the first step", True)


def test_what_is_not_there_is_said_in_one_sentence(run) -> None:
    assert run("regimes", "admm", "kernal").stderr == (
        "Error: regimes: none matches 'admm kernal'. Give fewer words. `campfire-fx regimes` lists all.\n"
    )
    assert run("regimes", "kernal").stderr.startswith("Error: regimes: none matches 'kernal'. Did you mean '")
    assert "family 'camp': there is none. Did you mean 'campfire'?" in run("regimes", "--family", "camp").stderr
