"""The command under a result gives that result again, through the real command line."""

import importlib
import inspect
import json
import shlex
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import torch
from spectra_cli.main import run

import spectra
from examples import write_model
from spectra.analyzers import Diff, Kappa, Spectrum, Width
from spectra.report.command_line import arguments, command_line
from spectra.report.kinds import Kind, kind_of
from spectra.report.screens import screen_of
from spectra.text import share_of

FAMILY = (
    ("self_attn.q_proj", 1, 1), ("mlp.up_proj", 2, 1), ("mlp.down_proj", 1, 2),
)  # fmt: skip


def write(folder: Path, width: int, seed: int, layers: int = 3) -> Path:
    generator = torch.Generator().manual_seed(seed)
    tensors = {"model.embed_tokens.weight": torch.randn(3 * width, width, generator=generator)}
    for layer in range(layers):
        for name, tall, wide in FAMILY:
            key = f"model.layers.{layer}.{name}.weight"
            tensors[key] = torch.randn(tall * width, wide * width, generator=generator)
    return write_model(folder, tensors, '{"model_type": "llama"}')


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    write(root / "a", 16, 1)
    write(root / "b", 16, 2)
    write(root / "it's here", 16, 3)
    write(root / "-odd", 16, 6)
    write(root / "wide", 32, 4)
    write(root / "wider", 64, 5)
    for step in (5, 10):
        write(root / f"run/checkpoint-{step}", 16, step)
    (root / "p.toml").write_text("schema = 1\n")
    return root


COMMANDS = {
    "ls": "ls a",
    "ls of two": "ls a b --role mlp",
    "ls of a selection": "ls a --role mlp --exclude '*.0.*' --layers 0-1",
    "a name to quote": "ls \"it's here\" --include '*up*' --include '*down*'",
    "a name like an option": "spectrum --energy 0.9 -- -odd",
    "spectrum": "spectrum a",
    "spectrum, energy": "spectrum a --energy 0.5 --role attn.q --role mlp.up",
    "spectrum, pieces": "spectrum a --factors --experts pooled",
    "trend": "spectrum run/checkpoint-10 run/checkpoint-5 --trend --layers 1",
    "diff": "diff a b",
    "diff, intruders": "diff a b --intruders",
    "diff, vectors": "diff a b --k 3 --epsilon 0.25 --side right --exclude '*.0.*'",
    "diff, all": "diff a b --intruders --k 3 --epsilon 0.25 --side right --exact --layers 2",
    "several": "diff a b run/checkpoint-5",
    "several, all": "diff a b run/checkpoint-5 --merged-rank 2 --k 3 --intruders --role mlp",
    "diff, frame": "diff a b --frame base --k 3",
    "course": "diff a run/checkpoint-10 run/checkpoint-5 --trend --no-sorsa --k 3 --role mlp",
    "diff, both": "diff a b --intruders --side both",
    "kappa": "kappa a",
    "kappa, all": "kappa a --select 3 --rank-by kappa_excess --per role --include-embeddings",
    "kappa, parameters": "kappa a --select 40% --by params --exact",
    "width": "width a wide wider",
    "width, trained": "width a wide wider --eta 4e-3 2e-3 1e-3 --lambda 0.1 --tolerance 20%",
    "width, proxy": "width wide wider --against a --lambda 0.1,0.2,0.3 --widths 1,2,3",
    "check": "check a --isolated",
    "check, all": "check b --policy p.toml --base a --baseline \"it's here\" --select SPC0 "
    "--select SPC1 --ignore SPC003 --fail-on never --min-coverage 0.5",
}  # fmt: skip


def result_of(words: Sequence[str], path: Path) -> Any:  # noqa: ANN401 - JSON
    command, *rest = words
    assert run([command, "-q", "-o", str(path), *rest]) in (0, 1), words
    return json.loads(path.read_text())


@pytest.mark.parametrize("name", COMMANDS)
def test_it_gives_the_same_document(
    name: str, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(models)
    first = result_of(shlex.split(COMMANDS[name]), tmp_path / "1.json")
    program, *again = shlex.split(command_line(first))
    assert program == "spectra"
    assert again == arguments(first)
    assert result_of(again, tmp_path / "2.json") == first


NEXT = {
    "ls of a selection": "spectrum a --exclude '*.0.*' --role mlp --layers 0-1",
    "a name like an option": "spectrum --energy 0.9 --plot spectrum.png -- -odd",
    "spectrum, energy": "spectrum a --energy 0.5 --role attn.q --role mlp.up --plot spectrum.png",
    "trend": "spectrum --trend run/checkpoint-5 run/checkpoint-10 --layers 1 --plot trend.png",
    "diff": "diff a b --intruders",
    "diff, vectors": "diff a b --k 3 --epsilon 0.25 --side right --exclude '*.0.*' --intruders",
    "diff, all": "diff a b --intruders --exact --k 3 --epsilon 0.25 --side right --layers 2 "
    "--plot intruders.png",
    "several": "diff a b run/checkpoint-5 --merged-rank 8",
    "several, all": "diff a b run/checkpoint-5 --intruders --k 3 --merged-rank 2 --role mlp "
    "--plot together.png",
    "course": "diff --trend a run/checkpoint-5 run/checkpoint-10 --no-sorsa --k 3 --role mlp "
    "--plot trend.png",
    "kappa": "kappa a --select 10% --export peft -o lora.json",
    "kappa, all": "kappa a --include-embeddings --select 3 --rank-by kappa_excess --per role "
    "--export peft -o lora.json",
    "kappa, parameters": "kappa a --exact --select 40% --by params --export peft -o lora.json",
    "width, trained": "width a wide wider --widths 16,32,64 --eta 0.004,0.002,0.001 --lambda 0.1 "
    "--tolerance 0.2 --plot width.png",
    "width, proxy": "width wide wider --widths 1,2,3 --lambda 0.1,0.2,0.3 --against a "
    "--plot width.png",
    "check, all": "",
}
"""What comes next: the command as it was given, and one thing more."""


@pytest.mark.parametrize("name", NEXT)
def test_the_next_command_repeats_every_option_once(
    name: str, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(models)
    found = result_of(shlex.split(COMMANDS[name]), tmp_path / "1.json")
    onward = screen_of(found, hints=True).onward
    assert onward[:1] == ((f"spectra {NEXT[name]}",) if NEXT[name] else ())
    assert not screen_of(found).onward
    live = found | {"settings": {key: frozen(value) for key, value in found["settings"].items()}}
    assert screen_of(live, hints=True).onward == onward


def frozen(value: object) -> object:
    """Return lists as the tuples that settings have before they are written."""
    return tuple(map(frozen, value)) if isinstance(value, list) else value


@pytest.mark.parametrize("line", [
    "ls a", "spectrum a", "diff a b", "kappa a", "width a wide --widths 16,32",
    "check a --isolated", "spectrum --trend run/checkpoint-5 run/checkpoint-10",
])  # fmt: skip
def test_defaults_are_not_repeated(
    line: str, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(models)
    assert command_line(result_of(line.split(), tmp_path / "1.json")) == f"spectra {line}"


def test_switches_that_are_on_and_numbers_that_are_zero_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind = Kind("other", "Other", options={"strict": True, "fast": False, "power": 1.0, "to": None})
    monkeypatch.setattr("spectra.report.command_line.kind_of", lambda _: kind)
    found = {"command": "other", "summary": {}, "models": [{"spec": "a", "part": "model"}]}
    for settings, told in (
        ({"strict": False, "fast": True, "power": 0.0, "to": ""}, "--no-strict --fast --power 0.0"),
        ({"strict": True, "fast": False, "power": 1.0, "to": 0}, "--to 0"),
        ({"strict": None, "fast": 1}, ""),
    ):
        line = command_line({**found, "settings": settings})
        assert line == f"spectra other a {told}".rstrip()


def test_control_characters_are_escaped() -> None:
    found = {
        "command": "ls", "settings": {"include": ["\x1b[31m\u202e"]}, "summary": {},
        "models": [{"spec": "a\nb", "part": "model"}],
    }  # fmt: skip
    assert command_line(found, ["-o", "x.json"]) == (
        "spectra ls 'a\\nb' --include '\\x1b[31m\\u202e' -o x.json"
    )


HANDLED = {
    "ls": {"other"},
    "spectrum": {"energy", "metrics", "seed", "preset", "select", "factors", "experts", "trend",
                 "dct_rank", "tokens"},
    "diff": {"intruders", "k", "epsilon", "side", "exact", "full_spectrum", "frame", "per_head",
             "merged_rank", "trend", "no_sorsa", "dct_rank", "tokens"},
    "kappa": {"select", "rank_by", "by", "per", "include_embeddings", "exact"},
    "width": {"against", "eta", "weight_decay", "widths", "tolerance"},
    "check": {
        "policy", "isolated", "base", "adapter", "baseline", "select", "ignore", "fail_on",
        "min_coverage",
    },
}  # fmt: skip
"""Options that change a result."""
ELSEWHERE = {
    "model", "base", "tuned", "include", "exclude", "role", "layers", "allow_pickle", "download",
    "format", "output", "plot", "values", "export", "dry_run", "device", "workers", "quiet",
    "no_cache", "verbose", "variant", "training", "save_baseline", "exit_zero", "init", "full",
    "show_settings", "engine", "address", "memory",
}  # fmt: skip
"""What every command has, what changes no number, and what a result holds in other words."""
AROUND = {"tokens"}
"""Options of what goes on with an analyzer's rows."""


@pytest.mark.parametrize("analyzer", [Spectrum(), Diff(), Kappa(), Width()], ids=attrgetter("name"))
def test_a_default_is_the_same_wherever_it_stands(
    analyzer: Spectrum | Diff | Kappa | Width,
) -> None:
    name = analyzer.name
    module = importlib.import_module(f"spectra_cli.commands.{name}")
    function = getattr(spectra, name)
    typed, called, planned = (
        {key: one.default for key, one in inspect.signature(call).parameters.items()}
        for call in (getattr(module, name).call, function, function.plan)
    )
    assert called == planned
    if name == "width":
        typed["tolerance"] = share_of(typed["tolerance"])
    for key, default in kind_of(name).options.items():
        own = default if key in AROUND else getattr(analyzer, key)
        assert (typed[key], called[key], own) == (default,) * 3, key


@pytest.mark.parametrize("name", HANDLED)
def test_no_option_is_forgotten(name: str) -> None:
    module = importlib.import_module(f"spectra_cli.commands.{name}")
    options = set(inspect.signature(getattr(module, name).call).parameters)
    assert options - ELSEWHERE == HANDLED[name] - ELSEWHERE
