"""What a run may hold: what counts, what is refused, and that reading waits."""

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import spectra
from examples import write_model
from spectra.analyzers import Analyzer, Kappa, Row, Spectrum
from spectra.errors import UsageError
from spectra.matrices import Selection
from spectra.work import local, memory, plan_model
from spectra.work.load import Loaded, Loader
from spectra.work.local import Local
from spectra.work.task import Task

SIDE = 256
LOADED = 4 * SIDE * SIDE


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path, {f"w{i}.weight": torch.randn(SIDE, SIDE) for i in range(8)})


@pytest.mark.parametrize("together", [1, 2, 3])
def test_reading_and_measuring_wait_for_room(
    model: Path, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    monkeypatch.setattr(memory, "resident", lambda: 0)
    monkeypatch.setattr(memory, "LATER", 0)
    tasks = plan_model(spectra.open(model), Selection()).tasks
    each = memory.weights_of(tasks, Kappa())[0]
    assert each.loaded == each.alive == LOADED
    assert each.need >= tasks[0].need(Kappa())
    limit = together * (each.need + each.loaded)
    lock, loaded, work, most = threading.Lock(), [0], [0], [0]
    load = Loader.load

    def noted(self: Loader, task: Task) -> Loaded:
        with lock:
            loaded[0] += 1
            # What is in work, and what was just read.
            assert work[0] * (each.need + each.loaded) + each.loaded <= limit
        return load(self, task)

    def measured(
        _analyzer: Analyzer[Any], job: Loaded, _device: str, *, threads: int
    ) -> local.Made:
        with lock:
            work[0] += 1
            most[0] = max(most[0], work[0])
        threading.Event().wait(0.02)
        with lock:
            work[0] -= 1
        return Row(job.task.place, "ok", None, {}), {}

    monkeypatch.setattr(Loader, "load", noted)
    monkeypatch.setattr(local, "measure_loaded", measured)
    assert len(list(Local(3, memory=limit).run(tasks, Kappa()))) == len(tasks)
    assert most == [together]


def test_what_later_tasks_need_too_counts_until_then(tmp_path: Path) -> None:
    fused = "model.layers.{}.self_attn.qkv_proj.weight"
    config = (
        '{"model_type": "phi3", "num_attention_heads": 2, "num_key_value_heads": 2,'
        ' "hidden_size": 16, "head_dim": 8}'
    )
    folder = write_model(tmp_path, {fused.format(i): torch.ones(48, 16) for i in range(2)}, config)
    tasks = plan_model(spectra.open(folder), Selection()).tasks
    assert [task.place.layer for task in tasks] == [0] * 3 + [1] * 3
    weights = memory.weights_of(tasks, Kappa())
    assert len({weight.loaded for weight in weights}) == 1
    assert [weight.alive // weight.loaded for weight in weights] == [1] * 6  # never both tensors
    backwards = memory.weights_of([tasks[0], tasks[3], tasks[1]], Kappa())
    assert [one.alive // one.loaded for one in backwards] == [1, 2, 1]


@pytest.mark.parametrize(("given", "told"), [(1000, "1KB"), ("1", "1B"), ("1.5MiB", "1536KiB"),
                                             ("1536 kb", "1536KB")])  # fmt: skip
def test_too_little_is_refused_before_anything_is_read(
    given: int | str, told: str, model: Path
) -> None:
    planned = spectra.kappa.plan(model, memory=given)
    (model / "model.safetensors").write_bytes(b"")
    with pytest.raises(
        UsageError, match=rf"memory='?{told}'? is too little: 'w0.weight' takes \d+MB"
    ) as e:
        planned.run()
    assert "Give at least" in str(e.value)
    assert "leave it out" not in str(e.value)  # the program alone is larger
    with pytest.raises(UsageError, match="is too little"):
        Local(memory=1000).peak(planned.question.plan.tasks, Kappa())


@pytest.mark.parametrize(
    "word", ["4 bananas", "0", "-1GB", "", 0, -5, 1.5, float("nan"), True, [1]]
)
def test_what_is_no_size_is_refused(model: Path, word: object) -> None:
    with pytest.raises(
        UsageError, match=r"is no size\. Expected bytes above 0, or KB, MB, GB: 4GB"
    ):
        spectra.kappa.plan(model, memory=word)  # type: ignore[arg-type]


def test_the_peak_that_is_told_is_what_was_given(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "resident", lambda: 0)
    tasks = plan_model(spectra.open(model), Selection()).tasks
    given = (None, 1 << 40, memory.LATER + 4_500_000)
    free, roomy, bound = (Local(3, memory=one).peak(tasks, Kappa()) for one in given)
    assert bound <= 4_500_000 < free
    assert 4_500_000 < roomy < 1 << 30
    with pytest.raises(UsageError, match=r"or leave it out: exclude='w0.weight'"):
        Local(memory=memory.LATER + 1000).peak(tasks, Kappa())


NAMES = ("model.embed_tokens.weight", "lm_head.weight")


def hollow(folder: Path, rows: int, cols: int, names: Sequence[str] = NAMES) -> Path:
    """Write a model of such matrices in bfloat16, of which nothing is on the disk but a header."""
    each = 2 * rows * cols
    entries = {
        name: {"dtype": "BF16", "shape": [rows, cols], "data_offsets": [at * each, (at + 1) * each]}
        for at, name in enumerate(names)
    }
    header = json.dumps(entries).encode()
    folder.mkdir(exist_ok=True)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + len(names) * each)  # a hole: nothing is written
    return folder


@pytest.mark.parametrize("shape", [(128256, 4096), (129280, 7168), (151936, 3584)], ids=str)
@pytest.mark.parametrize("given", [None, "7GB"])
def test_pairs_of_vocabularies_take_one_as_stored_and_small_matrices(
    tmp_path: Path, shape: tuple[int, int], given: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "resident", lambda: 512 << 20)
    base, tuned = (hollow(tmp_path / name, *shape) for name in ("base", "tuned"))
    plans = [
        spectra.diff.plan(base, tuned, memory=given),
        spectra.diff.plan(base, tuned, intruders=True, memory=given),
        spectra.diff.plan(base, tuned, intruders=True, side="both", exact=True, memory=given),
        spectra.check.plan(tuned, base=base, memory=given),
    ]
    pair, square = 4 * shape[0] * shape[1], 8 * shape[1] ** 2
    for plan in plans:
        found = plan.estimate()
        assert found.matrices == 2
        assert pair < found.memory <= (pair + 8 * square if given is None else 7e9 - (512 << 20))


@pytest.mark.parametrize("analyzer", [Kappa(), Spectrum()])
def test_a_vocabulary_takes_what_is_stored_and_a_gram_matrix(
    tmp_path: Path, analyzer: Analyzer[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "resident", lambda: 256 << 20)
    name, stored = NAMES[0], 2 * 262144 * 4096
    hollow(tmp_path, 262144, 4096, NAMES[:1])
    tasks = plan_model(spectra.open(tmp_path), Selection()).tasks
    assert memory.given_budget(tasks, analyzer, 4_000_000_000).least > stored
    with pytest.raises(UsageError, match=f"'{name}' takes 3\\d\\d\\dMB .* Give at least 3"):
        memory.given_budget(tasks, analyzer, 3_000_000_000)
