"""A composite action run as GitHub's runner does: its steps in order, each by a bash of its own."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

ROOT = Path(__file__).parent.parent
EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")
PRODUCT = (
    "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "spectra", "cli", "docs",
    "action.yml",
)  # fmt: skip

ALONE = ("unshare", "--map-root-user", "--net", "--pid", "--mount", "--fork", "--mount-proc")
BOX = r"""
set -e
root=$1 here=$PWD read_only=$2; shift 2
mount -t tmpfs box "$root"
for place in /usr /bin /lib /lib64 /etc $read_only; do
  [ -e "$place" ] || continue
  mkdir -p "$root$place"; mount --rbind -o ro "$place" "$root$place"
done
while [ "$1" != -- ]; do mkdir -p "$root$1"; mount --rbind "$1" "$root$1"; shift; done
shift
mkdir -p "$root/tmp" "$root/proc" "$root/dev"
mount --rbind /proc "$root/proc"; mount --rbind /dev "$root/dev"
exec "$(PATH=$PATH:/usr/sbin:/sbin command -v chroot)" "$root" env --chdir="$here" "$@"
"""
"""A root of its own: the system and Python to read, the job's folders to write, nothing else."""


@dataclass
class Job:
    """What a run of an action left behind."""

    log: str = ""
    summary: str = ""
    failed: bool = False
    steps: dict[str, dict[str, str]] = field(default_factory=dict)  # outputs by the step's id
    used: dict[str, dict[str, str]] = field(default_factory=dict)  # inputs by the action used
    outputs: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Runner:
    """A machine: an environment with Python, and a folder for each of a job's needs."""

    python: Path  # folder of its programs
    home: Path
    ready: frozenset[str] = frozenset()  # steps whose work is done already, by name
    inside: tuple[str, ...] = ()  # a program and its options, within which each step is run

    def run(self, action: Path, workspace: Path, **inputs: str) -> Job:
        """Run the action of a folder in a workspace; inputs with `_` for `-`."""
        text = yaml.safe_load((action / "action.yml").read_text())
        given = {name.replace("_", "-"): value for name, value in inputs.items()}
        known = {name: str(one.get("default", "")) for name, one in text["inputs"].items()}
        assert given.keys() <= known.keys()
        needed = {name for name, one in text["inputs"].items() if one.get("required")}
        assert needed <= given.keys()
        job, values = Job(), known | given
        for number, step in enumerate(text["runs"]["steps"]):
            if step["name"] in self.ready or not holds(step.get("if", ""), values, job):
                continue
            if "uses" in step:
                job.used[step["uses"]] = filled(step["with"], values, job)
                continue
            self.step(step, values, job, (action, workspace, number))
        outputs = {name: one["value"] for name, one in text["outputs"].items()}
        job.outputs = filled(outputs, values, job)
        return job

    def step(
        self,
        step: dict[str, Any],
        values: dict[str, str],
        job: Job,
        place: tuple[Path, Path, int],
    ) -> None:
        """Run one step in an environment that has nothing of ours."""
        action, workspace, number = place
        temp = self.home / "temp"
        temp.mkdir(exist_ok=True)
        script, output, page = (temp / f"{kind}-{number}" for kind in ("run", "output", "page"))
        script.write_text(step["run"])
        output.write_text("")
        page.write_text("")
        environment = {
            "PATH": f"{self.python}:/usr/bin:/bin",
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_ACTION_PATH": str(action),
            "GITHUB_WORKSPACE": str(workspace),
            "GITHUB_OUTPUT": str(output),
            "GITHUB_STEP_SUMMARY": str(page),
            "RUNNER_TEMP": str(temp),
            "RUNNER_OS": "Linux",
            # The test is no test of the network, and pip reads this option the wrong way round.
            "PIP_NO_INDEX": "1",
            "PIP_NO_BUILD_ISOLATION": "0",
            "OMP_NUM_THREADS": "1",
            **filled(step.get("env", {}), values, job),
        }
        assert step["shell"] == "bash"
        done = subprocess.run(
            [*self.inside, "bash", "--noprofile", "--norc", "-e", "-o", "pipefail", str(script)],
            cwd=workspace, env=environment, capture_output=True, text=True, check=False,
            timeout=240,
        )  # fmt: skip
        job.log += done.stdout + done.stderr
        job.summary += page.read_text()
        job.failed = job.failed or done.returncode != 0
        if "id" in step:
            pairs = (line.split("=", 1) for line in output.read_text().splitlines())
            job.steps[step["id"]] = dict(pairs)


def filled(texts: dict[str, str], values: dict[str, str], job: Job) -> dict[str, str]:
    """Fill in the expressions of a mapping."""
    return {
        key: EXPRESSION.sub(lambda found: value_of(found[1], values, job), str(text))
        for key, text in texts.items()
    }


def value_of(word: str, values: dict[str, str], job: Job) -> str:
    """Return what a word of an expression stands for; what is missing is empty."""
    if word.startswith("'"):
        return word.strip("'")
    parts = word.split(".")
    if parts[0] == "inputs":
        return values[parts[1]]
    assert (parts[0], parts[2]) == ("steps", "outputs"), word
    return job.steps.get(parts[1], {}).get(parts[3], "")


def holds(condition: str, values: dict[str, str], job: Job) -> bool:
    """Say whether a step is run: `and` of comparisons, only after success unless `always()`."""
    if "always()" not in condition and job.failed:
        return False
    parts = (part.strip() for part in condition.split("&&"))
    for part in parts:
        if part in ("always()", ""):
            continue
        left, sign, right = part.split()
        same = value_of(left, values, job) == value_of(right, values, job)
        if same != {"==": True, "!=": False}[sign]:
            return False
    return True


def bare_python(folder: Path) -> Path:
    """Make an environment with all that spectra needs and no spectra; return its programs."""
    ours = Path(sysconfig.get_paths()["purelib"])
    libraries = folder / "libraries"
    libraries.mkdir()
    for path in ours.iterdir():
        if "spectra_weights" not in path.name and path.suffix != ".pth":
            (libraries / path.name).symlink_to(path)
    venv.create(folder / "venv", with_pip=False)
    (theirs,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (theirs / "libraries.pth").write_text(f"{libraries}\n")
    return folder / "venv" / "bin"


def contained(home: Path, *folders: Path) -> tuple[str, ...]:
    """Return what runs a program in a container: namespaces of its own, no network, this root.

    Args:
        home: Where the root is put together.
        folders: What a job sees and may write to beside the system and its Python.
    """
    root = home / "root"
    root.mkdir()
    libraries = {path.resolve().parent for path in Path(sysconfig.get_paths()["purelib"]).iterdir()}
    read_only = " ".join(map(str, sorted({Path(sys.base_prefix), *libraries})))
    return (*ALONE, "sh", "-c", BOX, "box", str(root), read_only, *map(str, folders), "--")


def checked_out(folder: Path) -> Path:
    """Copy what a checkout of this repository has, so that no build is left in it."""
    folder.mkdir()
    for name in PRODUCT:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, folder / name, ignore=ignored)
        else:
            shutil.copy(source, folder / name)
    return folder


def in_environment(bin_folder: Path, **more: str) -> dict[str, str]:
    """Return an environment of a shell in which the programs of a folder are found."""
    return {"PATH": f"{bin_folder}{os.pathsep}/usr/bin:/bin", "LANG": "C.UTF-8", **more}
