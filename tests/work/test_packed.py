"""What the store keeps is opened as it was packed, or not at all."""

import zlib
from contextlib import closing
from pathlib import Path

import pytest

from spectra.work import packed as packing
from spectra.work.packed import packed, unpacked
from spectra.work.store import ROW, Store


def test_it_opens_what_was_packed() -> None:
    assert unpacked(packed(b'{"sigma": [1.5, null]}')) == {"sigma": [1.5, None]}


@pytest.mark.parametrize("body", [b"", b"no", packed(b"[]")[:-1], packed(b"[")], ids=repr)
def test_what_is_cut_off_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        unpacked(body)


def test_what_unpacks_to_more_than_the_limit_is_never_whole_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(packing, "MOST", 1 << 10)
    assert len(unpacked(packed(b'"%s"' % (b"0" * 1000)))) == 1000
    with pytest.raises(ValueError, match="unpack to over 1024"):
        unpacked(packed(b'"%s"' % (b"0" * 2000)))


@pytest.mark.parametrize(
    "text", [b"[" * 100_000, b"[]", b"7", b'{"place": 7}', b'{"place": {}}'], ids=len
)
def test_an_entry_that_is_no_row_is_dropped(text: bytes, tmp_path: Path) -> None:
    with closing(Store(tmp_path / "store.sqlite")) as store:
        store.base.put(ROW, b"key", zlib.compress(text))
        assert store.row("key") is None
        assert store.base.count(ROW) == 0
