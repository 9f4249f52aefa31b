"""What was measured once is not measured again, and nothing else is taken for it."""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import spectra
from examples import write_model
from spectra.analyzers import Analyzer, Diff, Kappa, Measurement, Row, Spectrum, spectrum
from spectra.checkpoint.local import LocalFile
from spectra.checkpoint.source import NAMED, Span
from spectra.gate import plan_check
from spectra.gate.check import Check
from spectra.kernels.singular import decompose
from spectra.matrices import Matrix, Pair, Place, Selection
from spectra.policy import Policy
from spectra.runs.analysis import Analysis
from spectra.work import local, plan_model, plan_pair
from spectra.work import store as stores
from spectra.work.database import Database
from spectra.work.estimate import estimate
from spectra.work.executor import Progress, measured, silent
from spectra.work.load import Loaded
from spectra.work.local import Local
from spectra.work.meter import Observed
from spectra.work.packed import packed
from spectra.work.store import Remembering, Store
from spectra.work.task import Task
from spectra.work.upkeep import export, take_in

EVERYTHING = Selection()


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store, in whose eyes a file that was just written has settled."""
    monkeypatch.setattr(stores, "SETTLED", -1.0)
    with closing(Store(tmp_path / "cache" / "store.sqlite")) as found:
        yield found


@pytest.mark.parametrize(
    ("given", "there"),
    [
        ("~/kept", "{home}/kept"),
        ("~", "{home}"),
        ("~no-such-user/kept", "~no-such-user/kept"),
        ("a/~", "a/~"),
    ],
)
def test_a_tilde_that_no_shell_saw_is_the_users_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, there: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SPECTRA_CACHE_DIR", given)
    monkeypatch.chdir(tmp_path)
    assert stores.place().parent == tmp_path / there.format(home=tmp_path)


def test_a_relative_place_stays_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("SPECTRA_CACHE_DIR", "kept")
    monkeypatch.chdir(tmp_path / "first")
    with closing(Store()) as store:
        monkeypatch.chdir(tmp_path / "second")
        store.base.put(stores.ROW, b"a", b"{}")
        assert store.base.path == tmp_path / "first" / "kept" / "store.sqlite"
    assert not list((tmp_path / "second").iterdir())


def run(
    store: Store, analysis: Analysis, report: Callable[[Progress], None] = silent
) -> tuple[spectra.Result, list[str]]:
    """Return a result, and the names of what was measured for it."""
    names: list[str] = []
    measure = local.measure_loaded

    def noted(analyzer: Analyzer[Any], job: Loaded, device: str, *, threads: int) -> local.Made:
        names.append(job.task.place.matrix)
        return measure(analyzer, job, device, threads=threads)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(local, "measure_loaded", noted)
        executor = Remembering(Local(1, ledger=store, recall=store.recall), store)
        result = analysis.run(executor, report)
    assert not store.troubles
    return result, sorted(names)


def spectra_of(
    folder: Path, analyzer: Analyzer[Any], selection: Selection = EVERYTHING
) -> Analysis:
    return Analysis(analyzer, plan_model(spectra.open(folder), selection, analyzer), selection)


def named(count: int, generator: torch.Generator) -> dict[str, Tensor]:
    return {
        f"layers.{i}.mlp.up_proj.weight": torch.randn(24, 12, generator=generator)
        for i in range(count)
    }


def lasting(result: spectra.Result) -> dict[str, Any]:
    return {key: value for key, value in result.document().items() if key != "date"}


def test_a_second_run_measures_nothing_and_says_the_same(
    minilm: Path, minilm_lora: Path, store: Store
) -> None:
    selection = Selection(layers="0", roles=("attn",))
    plan = plan_pair(spectra.open(minilm), spectra.open(minilm_lora), selection)
    for analyzer in (Diff(intruders=True), Diff(intruders=True, k=5)):
        first, measured_first = run(store, Analysis(analyzer, plan, selection))
        again, measured_again = run(store, Analysis(analyzer, plan, selection))
        assert len(measured_first) == len(first.rows)
        assert measured_again == []
        assert lasting(again) == lasting(first)
        for one, other in zip(first.rows, again.rows, strict=True):
            assert torch.equal(one.arrays["cosines"], other.arrays["cosines"])
        alone = Analysis(analyzer, plan, selection).run(Local())
        assert lasting(alone) == lasting(first)


def test_a_second_run_reads_no_weights(
    tmp_path: Path, store: Store, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = named(40, generator)
    weights["layers.7.mlp.up_proj.weight"][3, 3] = torch.nan  # a row that says so is kept too
    folder = write_model(tmp_path / "m", weights)
    first, _ = run(store, spectra_of(folder, Spectrum()))
    analysis = spectra_of(folder, Spectrum())

    def refuse(_self: LocalFile, start: int, buffer: memoryview) -> int:
        raise AssertionError(f"{len(buffer)} bytes from {start} were read")

    monkeypatch.setattr(LocalFile, "fill", refuse)
    told: list[Progress] = []
    again, _ = run(store, analysis, told.append)
    assert lasting(again) == lasting(first)
    assert [(one.count, one.known, one.left, one.to_read) for one in told] == [(40, 40, 0.0, 0)]
    assert [row.status for row in again.rows].count("non-finite") == 1


def test_one_changed_tensor_is_measured_and_the_others_are_not(
    tmp_path: Path, store: Store, generator: torch.Generator
) -> None:
    weights = named(6, generator)
    old = write_model(tmp_path / "old", weights)
    run(store, spectra_of(old, Spectrum()))
    weights["layers.3.mlp.up_proj.weight"][0, 0] += 1
    new = write_model(tmp_path / "new", weights)
    # A copy is another file: its bytes are read once, and found to be known.
    result, names = run(store, spectra_of(new, Spectrum()))
    assert names == ["layers.3.mlp.up_proj.weight"]
    fresh = spectra_of(new, Spectrum()).run(Local())
    assert [row.values for row in result.rows] == [row.values for row in fresh.rows]
    assert run(store, spectra_of(new, Spectrum()))[1] == []


def test_a_filter_or_a_selection_measures_no_more_than_it_must(
    tmp_path: Path, store: Store, generator: torch.Generator
) -> None:
    folder = write_model(tmp_path / "m", named(8, generator))
    assert len(run(store, spectra_of(folder, Kappa()))[1]) == 8
    for analyzer, selection in (
        (Kappa(), Selection(layers="2-4")),
        (Kappa(), Selection(include=("*.5.*",))),
        (Kappa(select="80%"), EVERYTHING),
        (Kappa(select="7", rank_by="kappa_excess"), EVERYTHING),
        (Kappa(select="90%", by="params", per="role"), Selection(layers="0-6")),
    ):
        assert run(store, spectra_of(folder, analyzer, selection))[1] == []


def large(count: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Matrices of which bounds are worth while, each of another condition number."""
    sizes = (torch.linspace(1, 2 + i, 1030)[:, None] for i in range(count))
    return {
        f"layers.{i}.mlp.up_proj.weight": size * torch.randn(1030, 514, generator=generator)
        for i, size in enumerate(sizes)
    }


def test_selections_share_what_they_measure(
    tmp_path: Path, store: Store, generator: torch.Generator
) -> None:
    folder = write_model(tmp_path / "m", large(16, generator))
    first, some = run(store, spectra_of(folder, Kappa(select="1")))
    again, none = run(store, spectra_of(folder, Kappa(select="1")))
    assert none == []
    assert lasting(again) == lasting(first)
    known = {row.matrix for row in first.rows if row.status == "ok"}
    assert len(some) == 16 + len(known)  # bounds of all, then what they leave open
    more, new = run(store, spectra_of(folder, Kappa(select="3")))
    assert len(new) == len({row.matrix for row in more.rows if row.status == "ok"} - known)
    assert len(new) < 16
    _, rest = run(store, spectra_of(folder, Kappa()))
    assert len(rest) == 16 - len(known) - len(new)
    assert run(store, spectra_of(folder, Kappa(select="1")))[0].rows == first.rows


def test_a_selection_of_what_was_measured_whole_measures_nothing(
    tmp_path: Path, store: Store, generator: torch.Generator
) -> None:
    folder = write_model(tmp_path / "m", large(6, generator))
    run(store, spectra_of(folder, Kappa()))
    found, names = run(store, spectra_of(folder, Kappa(select="2")))
    assert names == []
    alone = spectra_of(folder, Kappa(select="2")).run(Local())
    assert found.summary["selected"] == alone.summary["selected"]
    assert estimate(
        spectra_of(folder, Kappa(select="2")).plan, Kappa(select="2"),
        Remembering(Local(1, ledger=store), store),
    ).known == 6  # fmt: skip


def rewritten(path: Path, value: bytes, **kept: bool) -> None:
    """Write other bytes over the last ones of a file, in place, and set its times back."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(-len(value), os.SEEK_END)
        file.write(value)
    if kept.get("mtime"):
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


def test_a_file_rewritten_with_its_size_and_time_is_measured_anew(
    tmp_path: Path, store: Store, generator: torch.Generator
) -> None:
    folder = write_model(tmp_path / "m", named(3, generator))
    first, _ = run(store, spectra_of(folder, Spectrum()))
    time.sleep(0.02)  # the clock of files goes in steps
    rewritten(folder / "model.safetensors", b"\0\0\x80\x3f", mtime=True)
    again, names = run(store, spectra_of(folder, Spectrum()))
    assert names == ["layers.2.mlp.up_proj.weight"]  # the others were read, and known then
    assert [row.values for row in again.rows] != [row.values for row in first.rows]
    fresh = spectra_of(folder, Spectrum()).run(Local())
    assert [row.values for row in again.rows] == [row.values for row in fresh.rows]


def test_another_file_in_its_place_is_another(
    tmp_path: Path, store: Store, generator: torch.Generator
) -> None:
    folder = write_model(tmp_path / "m", named(2, generator))
    other = write_model(tmp_path / "o", named(2, generator))
    run(store, spectra_of(folder, Spectrum()))
    path, before = folder / "model.safetensors", (folder / "model.safetensors").stat()
    (other / "model.safetensors").replace(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    again, _ = run(store, spectra_of(folder, Spectrum()))
    fresh = spectra_of(folder, Spectrum()).run(Local())
    assert [row.values for row in again.rows] == [row.values for row in fresh.rows]


def test_a_file_that_was_just_written_is_not_believed(
    tmp_path: Path, generator: torch.Generator
) -> None:
    folder = write_model(tmp_path / "m", named(2, generator))
    for expected in (2, 0):  # what was read and measured is known, the file is not
        with closing(Store(tmp_path / "cache")) as store:
            analysis = spectra_of(folder, Spectrum())
            assert not Remembering(Local(), store).known(analysis.plan.tasks, Spectrum())
            assert len(run(store, analysis)[1]) == expected


def test_numerics_keys_and_settings_tell_rows_apart(
    tmp_path: Path, store: Store, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_model(tmp_path / "m", named(2, generator))
    run(store, spectra_of(folder, Spectrum()))
    assert run(store, spectra_of(folder, Spectrum()))[1] == []
    assert len(run(store, spectra_of(folder, Spectrum(energy=0.5)))[1]) == 2
    monkeypatch.setattr(Spectrum, "version", Spectrum.version + 1)
    assert len(run(store, spectra_of(folder, Spectrum()))[1]) == 2
    monkeypatch.setattr(Spectrum, "keys", (*Spectrum().keys, "more"))
    assert len(run(store, spectra_of(folder, Spectrum()))[1]) == 2


def test_names_are_those_of_the_model_at_hand(
    tmp_path: Path, store: Store, generator: torch.Generator
) -> None:
    values = torch.randn(8, 6, generator=generator)
    old = write_model(tmp_path / "old", {"layers.0.mlp.up_proj.weight": values})
    new = write_model(tmp_path / "new", {"layers.4.mlp.up_proj.weight": values})
    run(store, spectra_of(old, Spectrum()))
    run(store, spectra_of(new, Spectrum()))
    result, names = run(store, spectra_of(new, Spectrum()))
    assert names == []
    assert [row.matrix for row in result.rows] == ["layers.4.mlp.up_proj.weight"]
    assert result.rows[0].place.layer == 4


def test_a_run_that_ended_midway_goes_on(
    tmp_path: Path, store: Store, generator: torch.Generator
) -> None:
    folder = write_model(tmp_path / "m", named(9, generator))
    analysis = spectra_of(folder, Spectrum())

    def stop(progress: Progress) -> None:
        if progress.count == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        analysis.run(Remembering(Local(1, ledger=store), store), stop)
    told: list[Progress] = []
    result, names = run(store, analysis, told.append)
    assert 4 <= told[0].known <= 5
    assert told[0].count == told[0].known
    assert len(names) == 9 - told[0].known
    assert told[-1].count == told[-1].of == 9
    assert lasting(result) == lasting(analysis.run(Local()))


def test_what_makes_tensors_is_run_again(
    tmp_path: Path, store: Store, generator: torch.Generator
) -> None:
    folder = write_model(tmp_path / "m", named(2, generator))
    plan = plan_model(spectra.open(folder), Selection())
    run(store, spectra_of(folder, Spectrum()))

    class Nothing:
        def take(self, task: Task, tensors: Mapping[str, Tensor]) -> None:
            raise AssertionError((task, tensors))

    executor = Remembering(Local(ledger=store, recall=store.recall), store)
    assert executor.known(plan.tasks, Spectrum())
    assert len(measured(executor, plan.tasks, Spectrum(), sink=Nothing())) == 2


def test_a_row_of_another_shape_is_no_row(
    tmp_path: Path, store: Store, generator: torch.Generator
) -> None:
    folder = write_model(tmp_path / "m", named(1, generator))
    (row,) = run(store, spectra_of(folder, Spectrum()))[0].rows
    store.base.put("row", b"an older one", b"\x78\x9c\x03\x00\x00\x00\x00\x01")
    assert store.row("an older one") is None
    store.keep("this", replace(row, values={"sigma_max": float("inf")}))
    found = store.row("this")
    assert found is not None
    assert found.values == {"sigma_max": float("inf")}


def test_what_a_hash_stands_for_goes_to_other_machines_and_names_do_not(
    tmp_path: Path, store: Store
) -> None:
    by_hash, by_name = (
        Span(content, NAMED, 0, 8, 72) for content in ("ab" * 32, f"org/name@{'c' * 40}/a.bin")
    )
    here = Span(str(tmp_path / "a.bin"), 100, 1, 8, 72)
    for span in (by_hash, by_name, here):
        store.note(span, "digest")
    assert export(store, tmp_path / "sent") == 0
    with closing(Store(tmp_path / "other" / "store.sqlite")) as other:
        assert take_in(other, tmp_path / "sent") == (0, 0)
        assert [other.known(span) for span in (by_hash, by_name, here)] == ["digest", None, None]


def checked(store: Store, check: Check) -> dict[str, Any]:
    here = Local(1, ledger=store, recall=store.recall, parts=store.parts)
    return lasting(check.run(Remembering(here, store)))


def _noting(measure: Callable[..., Measurement], found: list[str]) -> Callable[..., Measurement]:
    def noted(analyzer: Analyzer[Any], subject: Matrix | Pair) -> Measurement:
        found.append(f"{analyzer.name} {subject.view.name}")
        return measure(analyzer, subject)

    return noted


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is measured: each analyzer, and the matrix."""
    found: list[str] = []
    measures: Mapping[type, Callable[..., Measurement]] = {
        Spectrum: Spectrum.measure, Diff: Diff.measure,
    }  # fmt: skip
    for one, measure in measures.items():
        monkeypatch.setattr(one, "measure", _noting(measure, found))
    return found


@pytest.mark.parametrize("first", ["check", "questions"])
def test_a_check_and_what_it_is_made_of_share_what_they_measure(
    tmp_path: Path, store: Store, generator: torch.Generator, told: list[str], first: str
) -> None:
    weights = named(4, generator)
    base = write_model(tmp_path / "base", weights)
    weights["layers.1.mlp.up_proj.weight"] = weights["layers.1.mlp.up_proj.weight"] * 1.5
    tuned = write_model(tmp_path / "tuned", weights)
    policy = Policy(base=str(base))
    fresh = lasting(plan_check(str(tuned), policy).run(Local(1)))
    alone = sorted(told)
    told.clear()

    def ask_all() -> None:
        run(store, spectra_of(tuned, Spectrum()))
        pair = plan_pair(spectra.open(base), spectra.open(tuned), EVERYTHING)
        run(store, Analysis(plan_check(str(tuned), policy).checkup.diff or Diff(), pair,
                            EVERYTHING))  # fmt: skip

    steps = [lambda: checked(store, plan_check(str(tuned), policy)), ask_all]
    for step in steps if first == "check" else steps[::-1]:
        step()
    assert sorted(told) == alone  # each once, whoever asked first
    assert checked(store, plan_check(str(tuned), policy)) == fresh
    result, names = run(store, spectra_of(tuned, Spectrum()))
    assert names == []
    assert all("sigma" in row.arrays for row in result.rows)


def test_what_was_known_in_part_tells_nothing_of_the_time_it_takes(
    tmp_path: Path, store: Store, generator: torch.Generator
) -> None:
    folder = write_model(tmp_path / "m", named(3, generator))
    run(store, spectra_of(folder, Spectrum()))
    seen = Observed()
    here = Local(1, ledger=store, recall=store.recall, meter=seen, parts=store.parts)
    check, there = plan_check(str(folder), Policy()), Remembering(here, store, seen)
    told = check.estimate(there)
    assert told.known == 0
    assert told.longest is not None
    with closing(Store(tmp_path / "empty.sqlite")) as empty:
        alone = check.estimate(Remembering(Local(1, ledger=empty), empty))
    assert alone.longest is not None
    assert told.longest < 0.5 * alone.longest  # spectra are known
    check.run(there)
    assert not any(key[1].startswith("check") for key, _ in seen.take())
    assert not any("check" in str(entry.about) for entry in store.base.entries("rate"))


def test_singular_values_are_decomposed_once_whatever_is_asked_of_them(
    tmp_path: Path, store: Store, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any order of questions, the default among them; shuffled entries are another matrix."""
    made: list[Tensor] = []
    real = decompose

    def noted(matrix: Tensor) -> tuple[Tensor, Tensor | None]:
        made.append(matrix)
        return real(matrix)

    monkeypatch.setattr(spectrum, "decompose", noted)
    executor = Remembering(Local(1, ledger=store, recall=store.recall, parts=store.parts), store)
    plain = Spectrum(), Spectrum(metrics="mp"), Spectrum(energy=0.5), Spectrum(metrics="powerlaw")
    random = Spectrum(metrics="random"), Spectrum(metrics="all"), Spectrum(metrics="traps")
    for at in range(2):
        folder = write_model(tmp_path / str(at), named(2, generator))
        for asked, whole in ((plain[::-1] if at else plain, 2), (random, 4)):
            for one in asked:
                found = spectra_of(folder, one).run(executor)
                known = len(made)
                assert known == whole
                fresh = spectra_of(folder, one).run(Local())
                assert [row.values for row in found.rows] == [row.values for row in fresh.rows]
                del made[known:]
        spectra_of(folder, Spectrum(metrics="random", seed=1)).run(executor)
        assert len(made) == 6
        made.clear()


def test_what_is_no_entry_is_not_taken_in_and_counted(store: Store, tmp_path: Path) -> None:
    kinds = stores.ROW, stores.CONCLUSION, stores.NAMED_FILE
    row = Row(Place("a", "a", "mlp.up", None, None, 2, 3, "F32"), "ok", None, {"x": 1.0}, {})
    sound = packed(json.dumps(row.plain()).encode()), packed(b"{}"), b'[[-1, 0, 0, 0], "d"]'
    path = tmp_path / "moved.sqlite"
    with closing(Database(path, shared=False)) as base:
        for kind, body in zip(kinds, sound, strict=True):
            base.put(kind, b"sound", body)
            for number, other in enumerate((b"none", packed(b"no text"), b"[1, 2]")):
                base.put(kind, b"%d" % number, other)
        base.put(stores.ROW, b"bare", packed(b"{}"))
    assert take_in(store, path) == (1, 10)
    assert [store.base.count(kind) for kind in kinds] == [1, 1, 1]
    assert store.row("sound") == row
    span = Span("content", NAMED, 0, 0, 8)
    store.note(span, "digest")
    assert store.known(span) == "digest"
    [about] = [one.about for one in store.base.entries(stores.NAMED_FILE) if one.about != b"sound"]
    store.base.put(stores.NAMED_FILE, about, b"[]")  # of a version with others
    assert store.known(span) is None
