"""A folder such as a user has after the first days, and somebody who sits before it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import sick
from situations.terminal import Desk

RESULTS = {
    "diff.json": "diff minilm adapter --intruders",
    "merged.json": "diff minilm merged --intruders",
    "kappa.json": "kappa minilm --select 10%",
    "spectrum.json": "spectrum minilm",
    "check.json": "check minilm",
    "known.json": "check minilm",
    "half.json": "kappa minilm --select 10% --layers 0-2",
    "broken.json": "check nan --base minilm",
    "heads.json": "heads minilm --layers 0-1",
    "other.json": "heads merged --layers 0-1",
}
POLICY = """\
[rules.SPC102]
max = 4
"""


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory, minilm: Path) -> Iterator[Desk]:
    """Somebody in that folder: models healthy and not, results, and files that are neither."""
    folder = tmp_path_factory.mktemp("desk")
    model = sick.fewer_words(minilm, folder / "minilm")
    (folder / "adapter").symlink_to(sick.ADAPTER)
    sick.write(model, folder / "merged", sick.merged(model)[0])
    sick.one_nan(model, folder / "nan")
    sick.intruder_laden(model, folder / "laden")
    sick.swapped(model, folder / "swapped")
    sick.zeroed_head(model, folder / "headless")
    sick.rank_collapsed(model, folder / "collapsed")
    sick.truncated(model, folder / "cut")
    sick.ablated(model, folder / "ablated")
    sick.wrongly_scaled_merge(model, folder / "twice")
    for step in (100, 200):
        held = sick.merged(model, step / 200)[0]
        sick.write(model, folder / "run" / f"checkpoint-{step}", held)
    (folder / "empty").mkdir()
    (folder / "notes.json").write_text(json.dumps({"todo": ["read the paper"]}))
    (folder / "strict.toml").write_text(POLICY)
    with Desk(folder) as found:
        for name, line in RESULTS.items():
            found.type([*line.split(), "-o", name, "--quiet"], 0, {})
            assert (folder / name).exists(), name
        yield found
