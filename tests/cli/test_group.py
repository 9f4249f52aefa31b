"""Commands are made when they are asked for."""

from typing import Any

import pytest
from spectra_cli import group

from .conftest import Command


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what is made."""
    found: list[str] = []
    made = group._made

    def seen(name: str, one: Any) -> Any:  # noqa: ANN401 - as there
        found.append(name)
        return made(name, one)

    monkeypatch.setattr(group, "_made", seen)
    return found


def test_a_run_makes_the_command_that_it_runs(command: Command, asked: list[str]) -> None:
    assert command("rule", "SPC001").code == 0
    assert set(asked) == {"rule"}


def test_help_and_refusals_know_all(command: Command, asked: list[str]) -> None:
    told = command("--help").out
    assert set(asked) >= {"check", "diff", "kappa", "lowrank", "ls"}
    assert all(f"\n  {name} " in told for name in asked)
    refused = command("ls", "--intruders").err
    assert "It is an option of `spectra diff`" in refused
    assert "Did you mean 'kappa'?" in command("kapa").err


@pytest.mark.parametrize("of", [(), ("lowrank",)], ids=["spectra", "spectra lowrank"])
def test_a_list_of_commands_has_whole_sentences(
    command: Command, monkeypatch: pytest.MonkeyPatch, of: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    listed = command(*of, "--help").out.partition("Commands:")[2]
    sentences = " ".join(listed.split())
    assert "..." not in sentences
    assert max(map(len, listed.splitlines())) <= 60
    assert ("the base without that part." if of else "where it looks, QK.") in sentences
