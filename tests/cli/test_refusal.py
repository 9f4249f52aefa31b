"""What the parser refuses: what was given, what was expected, and the way out, in one line."""

from pathlib import Path

import pytest

from .conftest import Command

USES = {
    "ls": "MODEL [OTHER] [OPTIONS]",
    "spectrum": "MODEL... [OPTIONS]", "diff": "BASE TUNED... [OPTIONS]",
    "kappa": "MODEL [OPTIONS]", "width": "MODEL... [OPTIONS]", "rule": "[CODE] [OPTIONS]",
}  # fmt: skip


@pytest.mark.parametrize("name", USES)
def test_usage_is_written_as_pages_write_it(command: Command, name: str) -> None:
    assert command(name, "--help").out.startswith(f"Usage: spectra {name} {USES[name]}\n")


@pytest.mark.parametrize("name", [*USES, "check", "report"])
def test_no_help_has_braces_or_types(command: Command, name: str) -> None:
    done = command(name, "--help")
    assert (done.code, done.err) == (0, "")
    assert [sign for sign in ("{", "}", "list[", "<") if sign in done.out] == []
    head, options = done.out.split("\nOptions:\n")
    assert "\nArguments:\n" in head
    assert "-h, --help" in options


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["kapa"], "No such command 'kapa'. Did you mean 'kappa'? See `spectra --help`."),
        (["DIFF"], "Did you mean 'diff'?"),
        (["zzz"], "No such command 'zzz'. Expected one of ls, spectrum, "),
        (["MODEL"], "A command stands before it: one of ls, spectrum, "),
        (["--vesion"], "No such option: --vesion. Did you mean '--version'? See `spectra --help`."),
        (
            ["kappa", "MODEL", "--slect", "10%"],
            "No such option: --slect. Did you mean '--select'? See `spectra kappa --help`.",
        ),
        (["kappa", "MODEL", "--slect=10%"], "--slect. Did you mean '--select'?"),
        (["ls", "MODEL", "-z"], "No such option: -z. See `spectra ls --help`."),
        (["ls", "MODEL", "--version"], "It stands before the command: `spectra --version`."),
        (["kappa", "MODEL", "--intruders"], "--intruders. It is an option of `spectra diff`."),
        (
            ["kappa", "MODEL", "--energy"],
            "option of `spectra spectrum`, `spectra lowrank ",
        ),
        (
            ["kappa", "MODEL", "--select"],
            "--select is without a value. Expected --select SHARE. See `spectra kappa --help`.",
        ),
        (["kappa", "MODEL", "-o"], "-o is without a value. Expected -o FILE."),
        (
            ["diff", "MODEL"],
            "Missing argument 'TUNED'. Expected spectra diff BASE TUNED... [OPTIONS]. See",
        ),
        (["width"], "Expected spectra width MODEL... [OPTIONS]. See `spectra width --help`."),
        (["ls", "MODEL", "b", "c"], "(c). Expected spectra ls MODEL [OTHER] [OPTIONS]."),
        (["kappa", "MODEL", "--workers", "x"], "--workers 'x' should be a whole number. See"),
        (["kappa", "MODEL", "--workers=0"], "--workers '0' should be greater than or equal to 1."),
        (["diff", "MODEL", "MODEL", "--epsilon", "x"], "--epsilon 'x' should be a number."),
        (
            ["lowrank", "extract", "MODEL", "MODEL", "--energy", "x"],
            "--energy 'x' should be a number, or like 90%.",
        ),
        (
            ["lowrank", "extract", "MODEL", "MODEL", "--energy", "900%", "-o", "new"],
            "--energy 9.0 is no share.",
        ),
        (
            ["kappa", "MODEL", "--format=yaml"],
            "--format 'yaml' is not known. Expected one of table",
        ),
        (
            ["kappa", "MODEL", "--engine", ""],
            "--engine '' is not known. Expected one of local, ray.",
        ),
        (["kappa", "MODEL", "--format=jsn"], "--format 'jsn' is not known. Did you mean 'json'? "),
        (
            ["kappa", "MODEL", "--device", "gpu"],
            "cuda'? Expected auto, cpu, cuda or cuda:N, or several GPUs: cuda:0,cuda:1.",
        ),
        (["kappa", "MODEL", "--export", "peft"], "--export 'peft' is of a selection, and nothing"),
        (["spectrum", "MODEL", "MODEL"], "error: expected one model, got 2. Several checkpoints"),
        (
            ["width", "MODEL", "--tolerance", "200"],
            "--tolerance '200' is no share. Expected above 0%",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_refusal_gives_the_way_out(
    command: Command, model: Path, words: list[str], text: str
) -> None:
    done = command(*(model if word == "MODEL" else word for word in words))
    assert (done.code, done.out) == (2, "")
    assert text in done.err
    assert done.err.count("\n") == 1
    assert done.err.count("Did you mean") <= 1
    for left_over in ("Possible options", "Invalid value", "Input should", "?.", "..  "):
        assert left_over not in done.err
