"""torch is loaded where something is measured, and not before."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from examples import write_model
from spectra.deferred import Tensor, once_loaded

EACH = """
import contextlib, io, json, sys
from spectra.work import store
from spectra_cli.main import run

store.SETTLED = -1.0
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as found:
        assert run([*words, "--format", "csv"]) in (0, 1), words
    loaded = [name for name in ("torch", "matplotlib") if name in sys.modules]
    print(json.dumps([words, found.getvalue(), loaded]))
"""
WITHIN = """
import sys
from spectra.deferred import torch
from spectra.work.threads import threads_within
with threads_within(2):
    inside = "torch" in sys.modules, torch.get_num_threads()
with threads_within(3):
    assert torch.get_num_threads() == 3
print(inside, torch.get_num_threads())
"""
NEVER = """
import sys
from spectra.work.threads import threads_within
with threads_within(1):
    pass
print("torch" in sys.modules)
"""


def ran(script: str, words: Sequence[str] = ()) -> str:
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True,
                          env={**os.environ, "OMP_NUM_THREADS": "1"},
                          check=True)  # fmt: skip
    return done.stdout


def each(lines: Sequence[Sequence[str]]) -> list[tuple[list[str], str, list[str]]]:
    """Return of every line its words, what it says, and what is loaded by then."""
    return [json.loads(line) for line in ran(EACH, [json.dumps(lines)]).splitlines()]


def test_a_second_run_loads_no_torch_and_says_the_same(tmp_path: Path) -> None:
    names = [f"model.layers.{layer}.self_attn.{name}_proj.weight"
             for layer in range(2) for name in "qkvo"]  # fmt: skip
    model = {name: torch.randn(16, 16, generator=torch.Generator().manual_seed(place))
             for place, name in enumerate(names)}  # fmt: skip
    base = str(write_model(tmp_path / "base", model))
    tuned = {name: one + 0.1 * one[:, :1] for name, one in model.items()}
    after = str(write_model(tmp_path / "tuned", tuned))
    for place in (base, after):
        config = {"model_type": "llama", "hidden_size": 16, "num_attention_heads": 2}
        (Path(place) / "config.json").write_text(json.dumps(config))
    lines = [
        ["spectrum", base], ["spectrum", base, "--values", str(tmp_path / "sigma.csv")],
        ["spectrum", base, "--metrics", "alpha"],
        ["kappa", base, "--select", "50%"],
        ["kappa", base, "--select", "50%", "--export", "peft", "-o", str(tmp_path / "lora.json")],
        ["diff", base, after, "--intruders"],
        ["diff", base, after, "--per-head"], ["check", after, "--base", base],
        ["heads", base], ["heads", base, "--compose"], ["shared", base],
    ]  # fmt: skip
    first, second = each(lines), each(lines)
    assert [loaded for *_, loaded in first] == [["torch"]] * len(lines)
    for before, (words, found, loaded) in zip(first, second, strict=True):
        assert not loaded, words
        assert found == before[1]
    places = [tmp_path / name for name in ("spectrum.png", "spectrum.svg", "intruders.png")]
    drawn = [
        ["spectrum", base, "--plot", str(places[0]), "--plot", str(places[1])],
        ["diff", base, after, "--intruders", "--plot", str(places[2])],
    ]
    pictures = []
    for loaded in (["matplotlib"], []):  # drawn from what is kept; then kept themselves
        assert [one for *_, one in each(drawn)] == [loaded] * len(drawn)
        pictures.append([path.read_bytes() for path in places])
        for path in places:
            path.unlink()
    assert pictures[0] == pictures[1]


def test_threads_that_were_told_before_hold_once_it_is_loaded() -> None:
    assert ran(WITHIN).split() == ["(False,", "2)", "1"]
    assert ran(NEVER).split() == ["False"]


def test_its_tensors_are_torchs() -> None:
    assert isinstance(torch.ones(1), Tensor)
    assert not isinstance([1.0], Tensor)
    called: list[int] = []
    with once_loaded(lambda: called.append(1)):
        assert called == [1]


def test_no_module_asks_torch_for_anything_at_its_top() -> None:
    script = """
import sys
from importlib import import_module
from pkgutil import walk_packages
import spectra
found = []
for one in walk_packages(spectra.__path__, "spectra."):
    if not one.name.endswith("__main__"):
        import_module(one.name)
        found += [one.name] if "torch" in sys.modules and not found else []
print(found)
"""
    assert ran(script) == "[]\n"


def test_threads_that_import_meanwhile_and_what_is_no_module_do_no_harm() -> None:
    script = """
import sys, threading, types
from spectra import deferred
import torch
sys.setswitchinterval(1e-6)
sys.modules["spectral"] = None
done = threading.Event()
def others():
    at = 0
    while not done.is_set():
        sys.modules[f"other{at % 500}"] = types.ModuleType("other")
        sys.modules.pop(f"other{(at + 250) % 500}", None)
        at += 1
beside = threading.Thread(target=others)
beside.start()
try:
    for _ in range(1500):
        deferred._hand_out(torch)
finally:
    done.set()
    beside.join()
print(deferred.torch is torch)
"""
    assert ran(script) == "True\n"


def test_a_torch_that_is_broken_is_told_in_one_line_where_it_is_needed(tmp_path: Path) -> None:
    (tmp_path / "broken" / "torch").mkdir(parents=True)
    broken = "raise ImportError('libfoo.so:\\n cannot open it')"
    (tmp_path / "broken" / "torch" / "__init__.py").write_text(broken)
    model = str(write_model(tmp_path / "model", {"layers.0.q.weight": torch.eye(4)}))
    script = """
import sys
from spectra import deferred
from spectra.work import store
from spectra_cli.main import run

store.SETTLED = -1.0
sys.path[:0] = sys.argv[2:]
print(run(["ls", sys.argv[1]]), run(["kappa", sys.argv[1]]))
if sys.argv[2:]:
    deferred.load_beside()
"""
    words = [sys.executable, "-c", script, model]
    first, sound, again = (
        subprocess.run([*words, *more], capture_output=True, text=True, check=True)
        for more in ([str(tmp_path / "broken")], [], [str(tmp_path / "broken")])
    )
    assert first.stdout.splitlines()[-1] == "0 2"
    assert first.stderr == (
        "error: torch cannot be loaded (ImportError: libfoo.so: cannot open it). Install it anew; "
        "`spectra env` tells what is there.\n"
    )
    assert (sound.stdout.splitlines()[-1], again.stdout.splitlines()[-1]) == ("0 0", "0 0")
    assert again.stderr == ""


def test_after_an_interrupted_loading_a_new_process_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("""
import builtins
if not hasattr(builtins, "half"):
    builtins.half = True
    raise KeyboardInterrupt
raise RuntimeError("registered twice")
""")
    script = """
import sys
sys.path.insert(0, sys.argv[1])
from spectra.deferred import torch
for _ in range(2):
    try:
        torch.ones
    except BaseException as error:
        print(type(error).__name__, error)
"""
    first, again = ran(script, [str(tmp_path)]).splitlines()
    assert first == "KeyboardInterrupt "
    assert again == (
        "SpectraError torch cannot be loaded (RuntimeError: registered twice). That was "
        "interrupted before, and goes well in a new process alone: begin one."
    )
