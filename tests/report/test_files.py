"""Files are checked before the work and never half-written."""

import os
from pathlib import Path

import pytest

from spectra.errors import OutputError
from spectra.writing.atomic import require_picture_suffix, require_writable, write_atomically


def test_a_file_appears_whole_under_its_name_with_usual_rights(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    write_atomically(path, lambda target: write(target, "whole"))
    assert path.read_text() == "whole"
    other = tmp_path / "other.txt"
    other.write_text("")
    assert path.stat().st_mode == other.stat().st_mode


def write(path: Path, text: str) -> None:
    path.write_text(text)


def test_a_failure_leaves_what_was_there_and_no_scraps(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("before")

    def half(target: Path) -> None:
        target.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match=r"out\.txt cannot be written: No space left"):
        write_atomically(path, half)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_vanished_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file"):
        write_atomically(tmp_path / "gone" / "out.txt", lambda target: write(target, ""))


def test_folders_and_missing_folders_are_refused_early(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder; expected a file name"):
        require_writable(tmp_path)
    with pytest.raises(OutputError, match=r"does not exist\. Create it first"):
        require_writable(tmp_path / "gone" / "out.txt")
    with pytest.raises(OutputError, match="- is no place to write to"):
        require_writable(Path("-"))
    require_writable(tmp_path / "fine.txt")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file is a file; expected a folder"):
        require_writable(tmp_path / "file" / "sub" / "deep" / "out.txt")


@pytest.mark.skipif(os.name != "posix", reason="needs pipes with names")
def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    """A file renamed to /dev/null takes it away for good, where root writes."""
    pipe, link = tmp_path / "pipe.json", tmp_path / "link.json"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link, Path("/dev/null"), Path("/dev/stdout"), Path("/dev/fd/1")):
        with pytest.raises(OutputError, match=f"{path} is a device or pipe; expected a file name"):
            require_writable(path)
        with pytest.raises(OutputError, match="is a device or pipe"):
            write_atomically(path, lambda _: pytest.fail("begun"))
    assert pipe.is_fifo()
    assert link.is_symlink()


def test_only_png_and_svg_are_pictures() -> None:
    require_picture_suffix(Path("a.PNG"))
    with pytest.raises(OutputError, match="has no suffix"):
        require_picture_suffix(Path("a"))
