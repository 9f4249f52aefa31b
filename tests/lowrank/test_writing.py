"""What all that write refuse alike: matrices that could not be measured, places, disks."""

import contextlib
import re
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from torch import nn

import spectra
import spectra.lowrank
from spectra.analyzers.extracted import Extracted
from spectra.analyzers.factored import Converted, Merged, Resized
from spectra.analyzers.initial import Initial
from spectra.analyzers.principal import Principal
from spectra.analyzers.repaired import Repaired
from spectra.errors import OutputError

from .test_repairing import llama, lora, sick

Writer = Callable[[Path, Path, bool], spectra.Result]
low = spectra.lowrank
WRITERS: dict[str, tuple[type, Writer]] = {
    "init": (Initial, lambda f, out, force: low.init("pissa", f / "base", out, force=force)),
    "bare": (
        Initial, lambda f, out, force: low.init("pissa", f / "base", out, form="bare", force=force)
    ),
    "mask": (Principal, lambda f, out, force: low.mask(f / "base", out, rank=2, force=force)),
    "repair": (
        Repaired, lambda f, out, force: low.repair(f / "base", f / "tuned", out, force=force)
    ),
    "refit": (Repaired, lambda f, out, force: low.repair(f / "base", f / "a", out, force=force)),
    "resize": (Resized, lambda f, out, force: low.resize(f / "a", out, force=force)),
    "merge": (Merged, lambda f, out, force: low.merge([f / "a", f / "a"], out, force=force)),
    "convert": (Converted, lambda f, out, force: low.convert(f / "a", out, to="mlx", force=force)),
    "extract": (
        Extracted,
        lambda f, out, force: low.extract(f / "base", f / "tuned", out, rank=2, force=force),
    ),
}  # fmt: skip


class Disk(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    model: nn.Module = llama()
    lora(model, folder)
    sick(model, folder, ("q_proj",))
    return folder


@pytest.mark.parametrize("name", WRITERS)
def test_a_disk_without_room_and_a_matrix_without_numbers_are_refused(
    name: str, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    analyzer, write = WRITERS[name]
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _path: Disk(1 << 40, 0, 1000))
        with pytest.raises(OutputError, match=r"may take \S+ \w+ while .*, and 1,?000 B are free"):
            write(models, out, False)
    measure = analyzer.measure  # type: ignore[attr-defined]

    def broken(self: object, subject: Any) -> Any:  # noqa: ANN401 - of any analyzer
        if not calls:
            calls.append(1)
            raise RuntimeError("did not converge")
        return measure(self, subject)

    calls: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(analyzer, "measure", broken)
        with pytest.raises(OutputError, match=r"cannot be written: .*did not converge"):
            write(models, out, False)
    assert [*tmp_path.iterdir()] == []


@contextlib.contextmanager
def files_of(most: int) -> Iterator[None]:
    """Let no file grow beyond so many bytes, which the system refuses as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", WRITERS)
def test_a_disk_that_fills_up_on_the_way(name: str, models: Path, tmp_path: Path) -> None:
    """What is measured is held on disk first, then written: either may find no room any more."""
    _, write = WRITERS[name]
    out = tmp_path / "out"
    write(models, out, False)
    largest = max(one.stat().st_size for one in out.rglob("*") if one.is_file())
    shutil.rmtree(out)
    for most in (64, largest // 3, largest - 1):
        with files_of(most), pytest.raises(OutputError) as told:
            write(models, out, False)
        where = f"{tmp_path}(/out cannot be written| cannot hold what is to be written)"
        assert re.fullmatch(
            rf"{where}: File too large\. Make room, or choose another place\.", str(told.value)
        )
        assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("name", WRITERS)
def test_what_is_there_or_is_read_is_not_written_over(
    name: str, models: Path, tmp_path: Path
) -> None:
    _, write = WRITERS[name]
    out = tmp_path / "out"
    out.write_text("mine")
    for force in (False, True):
        with pytest.raises(OutputError, match="is a file; expected a folder"):
            write(models, out, force)
    out.unlink()
    out.mkdir()
    (out / "mine").touch()
    with pytest.raises(OutputError, match="was not written here"):
        write(models, out, True)
    (out / "mine").unlink()
    assert Path(str(write(models, out, False).summary["written"])) == out
    with pytest.raises(OutputError, match="nothing is overwritten without"):
        write(models, out, False)
    write(models, out, True)
    for given in ("base", "tuned", "a"):
        before = {one.name: one.read_bytes() for one in (models / given).iterdir()}
        if name in ("resize", "merge", "convert", "refit", "bare") and given == "a":
            continue  # an adapter may take an adapter's place
        with pytest.raises(OutputError, match=r"was not written here|not written over"):
            write(models, models / given, True)
        assert before == {one.name: one.read_bytes() for one in (models / given).iterdir()}
    assert write(models, models / "base" / name, False).rows
    shutil.rmtree(models / "base" / name)
