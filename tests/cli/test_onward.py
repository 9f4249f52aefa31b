"""What comes next: every hint that is printed runs, repeats nothing, and keeps what was given."""

import shlex
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from examples import write_model
from spectra.report.table import wrap_command

from .conftest import Command


@pytest.fixture(autouse=True)
def at_a_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: Path) -> None:
    monkeypatch.setattr("spectra_cli.run.is_terminal", lambda _stream: True)
    monkeypatch.chdir(tmp_path)
    Path("base").symlink_to(model)
    tensors = load_file(model / "model.safetensors")
    generator = torch.Generator().manual_seed(8)
    moved = {
        name: values + torch.randn(values.shape, generator=generator) * (values.ndim > 1)
        for name, values in tensors.items()
    }
    write_model(tmp_path / "it's tuned", moved, '{"model_type": "llama"}')


def onward(command: Command, *words: str) -> list[str]:
    """Run, and return the command lines that are offered."""
    done = command(*words)
    assert done.code in (0, 1), done
    _, label, told = done.out.replace(" \\\n", " ").partition("Next: ")
    return [" ".join(line.split()) for line in told.splitlines()] if label else []


ONE = ("--layers", "2", "--workers", "1")


@pytest.mark.parametrize(
    ("words", "first", "others"),
    [
        (("spectrum", "base", *ONE), "--plot spectrum.png", ["-o spectrum.json && spectra report"]),
        (("spectrum", "base", *ONE, "--plot", "x.png"), "-o spectrum.json && spectra report", []),
        (("spectrum", "base", *ONE, "--plot", "x.png", "-o", "x.json"), "report x.json", []),
        (
            ("diff", "base", "it's tuned", *ONE),
            "--intruders",
            ["spectra check --workers 1 --base base", "-o diff.json && spectra report diff.json"],
        ),
        (
            ("diff", "base", "it's tuned", "--intruders", *ONE, "-o", "d.json"),
            "--plot intruders.png",
            ["spectra check --workers 1 --base base", "spectra report d.json"],
        ),
        (
            ("diff", "base", "it's tuned", "--intruders", *ONE, "--plot", "d.png"),
            "spectra check --workers 1 --base base",
            ["-o diff.json && spectra report diff.json"],
        ),
        (
            ("kappa", "base", *ONE),
            "--select 10% --export peft -o lora.json",
            ["-o kappa.json && spectra report kappa.json"],
        ),
        (
            ("kappa", "base", *ONE, "--select", "2"),
            "--workers 1 --export peft -o lora.json",
            ["-o kappa.json && spectra report kappa.json"],
        ),
        (
            ("kappa", "base", *ONE, "--select", "2", "--export", "peft", "-o", "lora.json"),
            "--plot kappa.png",
            ["-o kappa.json && spectra report kappa.json"],
        ),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, tuple) else "",
)
def test_what_is_offered_leads_on_and_runs(
    command: Command, words: tuple[str, ...], first: str, others: list[str]
) -> None:
    found = onward(command, *words)
    assert len(found) == 1 + len(others), found
    for line, told in zip(found, [first, *others], strict=True):
        assert told in line
        if not line.startswith(("spectra report", "spectra check")):
            assert {"--layers 2", "--workers 1"} <= {*_pairs(line)}
        for one in line.split(" && "):
            program, *rest = shlex.split(one)
            assert program == "spectra"
            assert rest != list(words)
            assert command(*rest).code in (0, 1)


def _pairs(line: str) -> list[str]:
    pieces = line.split()
    return [f"{one} {two}" for one, two in pairwise(pieces)]


def test_a_check_leads_to_its_page(command: Command) -> None:
    assert onward(command, "check", "base", "--isolated") == []
    assert onward(command, "check", "base", "--isolated", "-o", "c.json") == [
        "spectra report c.json"
    ]


def test_a_long_command_goes_on_as_a_shell_reads_it() -> None:
    words = ["spectra", "diff", "a long name", "it's tuned", "--include", "*.mlp.*", "--intruders"]
    for limit in (30, 40, 60):
        shown = wrap_command(shlex.join(words), "  Next: ", limit)
        assert len(shown) > 1
        assert all(len(one) <= max(limit, 34) for one in shown)
        text = "\n".join(shown).removeprefix("  Next: ").replace("\\\n", " ")
        assert shlex.split(text) == words
    assert wrap_command("spectra ls m", "  Next: ", None) == ["  Next: spectra ls m"]
