"""The pre-commit hook, installed in a repository that then pushes."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from examples import write_model
from runner import ROOT, in_environment

MANIFEST = ".pre-commit-hooks.yaml"
BIN = Path(sys.executable).parent
CONFIG = """
repos:
  - repo: {product}
    rev: {revision}
    hooks:
      - id: spectra-check
        args: [--isolated, release]
"""


class Repository:
    """A repository of git in a folder of its own, and a home that is nobody's."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder, self.home = folder, home
        folder.mkdir()
        self.ok("git", "init", "--quiet", "--initial-branch=main")

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        environment = in_environment(
            BIN, HOME=str(self.home), PRE_COMMIT_HOME=str(self.home / "cache"),
            GIT_CONFIG_NOSYSTEM="1", GIT_AUTHOR_NAME="a", GIT_AUTHOR_EMAIL="a@example.org",
            GIT_COMMITTER_NAME="a", GIT_COMMITTER_EMAIL="a@example.org",
        )  # fmt: skip
        return subprocess.run(
            words, cwd=self.folder, env=environment, capture_output=True, text=True, check=False,
            timeout=240,
        )  # fmt: skip

    def ok(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def commit(self) -> str:
        self.ok("git", "add", "--all")
        self.ok("git", "commit", "--quiet", "--message", "a change")
        return self.ok("git", "rev-parse", "HEAD")


@pytest.fixture
def pushing(tmp_path: Path) -> Repository:
    """A repository with the hook installed, and a place to push to."""
    product = Repository(tmp_path / "product", tmp_path)
    (product.folder / MANIFEST).write_text((ROOT / MANIFEST).read_text())
    revision = product.commit()
    subprocess.run(["git", "init", "--quiet", "--bare", tmp_path / "remote"], check=True)
    made = Repository(tmp_path / "model", tmp_path)
    config = CONFIG.format(product=product.folder, revision=revision)
    (made.folder / ".pre-commit-config.yaml").write_text(config)
    (made.folder / "release").mkdir()
    made.ok("git", "remote", "add", "origin", str(tmp_path / "remote"))
    made.ok("pre-commit", "install", "--hook-type", "pre-push")
    return made


def test_a_push_waits_for_the_verdict(pushing: Repository) -> None:
    weights = torch.randn(24, 24, generator=torch.Generator().manual_seed(1))
    write_model(pushing.folder / "release", {"layers.0.mlp.up_proj.weight": weights})
    sound = pushing.commit()
    pushed = pushing.run("git", "push", "origin", "main")
    assert pushed.returncode == 0, pushed.stdout + pushed.stderr
    assert "PASS  " in pushed.stdout + pushed.stderr
    weights[3, 4] = torch.nan
    write_model(pushing.folder / "release", {"layers.0.mlp.up_proj.weight": weights})
    pushing.commit()  # a commit costs nothing
    refused = pushing.run("git", "push", "origin", "main")
    assert refused.returncode == 1
    assert "SPC001" in refused.stdout + refused.stderr
    assert pushing.ok("git", "ls-remote", "origin", "main").split()[0] == sound
    asked = pushing.run("pre-commit", "run", "--hook-stage", "manual", "spectra-check")
    assert asked.returncode == 1
    assert "- exit code: 1" in asked.stdout


def test_the_manifest_is_valid() -> None:
    words = [str(BIN / "pre-commit"), "validate-manifest", str(ROOT / MANIFEST)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert not done.stdout
