"""Errors in the words of who reads them."""

import inspect
from pathlib import Path

import pytest

import spectra
from spectra.errors import UsageError
from spectra.wording import in_python, typed

CASES = {
    "--device cuda:99 is not there. Use --device cpu.":
        "device='cuda:99' is not there. Use device='cpu'.",
    "--workers 0 is too few.": "workers=0 is too few.",
    "--role 'attn.x' is no role.": "role='attn.x' is no role.",
    "`spectra ls` shows all; --role names others.":
        "`spectra.ls(...)` shows all; role= names others.",
    "Give one with --variant (`variant=`), or not.": "Give one with `variant=`, or not.",
    "`--variant fp16 (`variant='fp16'`)": "``variant='fp16'`",
    "Give: spectra check MERGED --base BASE --adapter ADAPTER.":
        "Give: spectra.check(MERGED, base=BASE, adapter=ADAPTER).",
    "Run: spectra kappa a/b --select 10% --export peft":
        "Run: spectra.kappa('a/b', select='10%').export('peft')",
    "`spectra lowrank convert a/b --base BASE --energy 0.9 -o LORA` makes one of it.":
        "`spectra.lowrank.convert('a/b', LORA, base=BASE, energy=0.9)` makes one of it.",
    "`spectra lowrank repair BASE a --scale 1 --merged -o MERGED`.":
        "`spectra.lowrank.repair(BASE, 'a', MERGED, scale=1, merged=True)`.",
    "Leave it out with --exclude, or use --export names.":
        "Leave it out with exclude=, or use .export('names').",
    "Write it again with -o FILE.json.": "Write it again with .save('FILE.json').",
    "Give it: --widths 256,512, one number a model.":
        "Give it: widths=[256, 512], one number a model.",
    "--lambda -1.0 is no number above 0.": "weight_decay=-1.0 is no number above 0.",
    "--select 0.1 is no share. Did you mean --select 10%? Expected above 0%.":
        "select=0.1 is no share. Did you mean select='10%'? Expected above 0%.",
    "Give them one by one: --include '*q*' --include '*k*'.":
        "Give them one by one: include=['*q*', '*k*'].",
    "`spectra spectrum a --base BASE --tokens`, or --preset spectrum; add --no-fold.":
        "`spectra.spectrum('a', base=BASE, tokens=True)`, or preset='spectrum'; add fold=False.",
    "Run: spectra heads a --compose": "Run: spectra.heads('a', compose=True)",
    "add --full-spectrum": "add full_spectrum=True",
    "model-00001-of-00002.safetensors and x--y -- and run/checkpoint-*/.":
        "model-00001-of-00002.safetensors and x--y -- and run/checkpoint-*/.",
}  # fmt: skip


@pytest.mark.parametrize("text", CASES)
def test_options_are_arguments_and_commands_are_calls(text: str) -> None:
    assert in_python(text) == CASES[text]


def test_every_command_and_switch_has_pythons_words() -> None:
    """What is a function there is told as one, and what is True or False as that."""
    public = [getattr(spectra, name) for name in spectra.__all__]
    asked = [one for one in public if hasattr(one, "plan")]
    written = [getattr(spectra.lowrank, name) for name in spectra.lowrank.__all__]
    for function in (*asked, *written):
        name = f"lowrank {function.__name__}" if function in written else function.__name__
        if function is not spectra.measure and function is not spectra.trend:
            assert in_python(f"`spectra {name} a`").startswith("`spectra."), name
        for given, about in inspect.signature(function).parameters.items():
            word = given.replace("_", "-")
            if about.default is False and given != "trend":
                assert in_python(f"Add --{word}.") == f"Add {given}=True."
            if about.default is True and given != "progress":
                assert in_python(f"Add --no-{word}.") == f"Add {given}=False."


def test_an_error_knows_who_reads_it(minilm: Path) -> None:
    with pytest.raises(spectra.SpectraError) as refused:
        spectra.kappa(minilm, role="attn.x")
    assert str(refused.value).startswith("role='attn.x' is no role. Did you mean 'attn.")
    with typed():
        assert str(refused.value).startswith("--role 'attn.x' is no role.")
    with pytest.raises(UsageError, match=r"^selection= and layers= are both given"):
        spectra.diff(minilm, minilm, selection=spectra.Selection(), layers=[0, 1])
