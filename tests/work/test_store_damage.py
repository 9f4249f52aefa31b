"""Whatever bits of a store are flipped, it tells no wrong number and ends no run."""

import math
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spectra.analyzers import Row
from spectra.checkpoint.source import Span
from spectra.kernels.work import Work
from spectra.matrices import Place
from spectra.work import store as stores
from spectra.work import upkeep
from spectra.work.meter import Seen
from spectra.work.store import Store


def kept_in(folder: Path) -> tuple[Path, dict[str, Any], list[Span]]:
    """Write a store of rows, digests and rates; return its folder, with what the log still holds.

    The file is copied while it is open: half of the entries are in it, half in the log beside it.
    """
    place = Place("t", "m", "attn.q", 0, None, 8, 4, "F32", None, "model.safetensors", "", {})
    rows = {
        f"{i:064x}": Row(place, "ok", None, {"sigma_max": math.pi * i, "rank": i},
                         {"sigma": torch.arange(float(i))})
        for i in range(24)
    }  # fmt: skip
    spans = [Span("/m", 99, 5, i, i + 9, "", 7, 8) for i in range(12)]
    with closing(Store(folder / "live" / "store.sqlite")) as store:
        for half in (0, 1):
            for key, row in [*rows.items()][half::2]:
                store.keep(key, row)
            for span in spans[half::2]:
                store.note(span, f"digest of {span.start}")
            store.rates.keep([(("cpu", f"question {half}", 8, 1), Seen(1.5, 2.0))])
            if not half:
                assert store.base._base is not None
                store.base._base.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copytree(folder / "live", folder / "whole")
    assert (folder / "whole" / "store.sqlite-wal").stat().st_size > 20_000
    return folder / "whole", {key: row.plain() for key, row in rows.items()}, spans


def test_200_flips_of_bits_anywhere_tell_no_wrong_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "SETTLED", -math.inf)
    whole, rows, spans = kept_in(tmp_path)
    files = [whole / name for name in ("store.sqlite", "store.sqlite-wal")]
    sizes = [file.stat().st_size for file in files]
    numbers = np.random.default_rng(0)
    lost = 0
    for turn in range(200):
        folder = tmp_path / f"{turn}"
        shutil.copytree(whole, folder)
        (folder / "store.sqlite-shm").unlink(missing_ok=True)  # made anew of the log
        which, place = turn % 2, 0
        raw = bytearray(files[which].read_bytes())
        for place in numbers.integers(sizes[which], size=(1, 1, 3, 30)[turn % 4]):
            raw[place] ^= 1 << int(numbers.integers(8))
        (folder / files[which].name).write_bytes(raw)
        with closing(Store(folder / "store.sqlite")) as store:
            for key, expected in rows.items():
                found = store.row(key)
                assert found is None or found.plain() == expected
                lost += found is None
            for span in spans:
                assert store.known(span) in (None, f"digest of {span.start}")
            for name in ("question 0", "question 1"):
                assert store.rates.seconds(Work(products=2.0), name, 8) in (None, 3.0)
            assert set(upkeep.held(store)._asdict()) >= {"rows", "rates"}
