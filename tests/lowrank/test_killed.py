"""Every writer, ended at moments of its work: what is in the place is whole, or as it was."""

import json
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .nets import adapter
from .test_repairing import llama, sick

Ending = Callable[[list[str], Path, int, int], tuple[str, int]]
WRITERS = {
    "init": ["init", "pissa", "base", "--rank", "2"],
    "mask": ["mask", "base", "--rank", "2"],
    "repair": ["repair", "base", "tuned"],
    "repair adapter": ["repair", "base", "lora", "--scale", "0.5"],
    "repair merged": ["repair", "base", "lora", "--merged"],
    "convert": ["convert", "lora", "--to", "mlx"],
    "convert file": ["convert", "lora", "--to", "kohya", "--part", "unet"],
    "resize": ["resize", "lora", "--rank", "2"],
    "merge": ["merge", "lora", "lora"],
    "extract": ["extract", "base", "tuned", "--rank", "2"],
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    model = llama()
    sick(model, folder, ("q_proj",))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*save_embedding_layers", UserWarning)
        adapter(model, folder / "lora", target_modules=["q_proj"], r=4)
    return folder


@pytest.fixture(scope="module")
def ended(models: Path) -> Iterator[Ending]:
    """Yield what runs a command to a moment: the moments that it told of, and how it ended."""
    words = [sys.executable, "-m", "lowrank.killing", str(models / "base")]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[1],
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None

        def end(words: list[str], folder: Path, moment: int, number: int) -> tuple[str, int]:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps([words, str(folder), moment, number]) + "\n")
            process.stdin.flush()
            told, status = json.loads(process.stdout.readline())
            return told, status

        yield end
        process.stdin.close()


def held(place: Path) -> dict[str, bytes]:
    files = [place] if place.is_file() else [one for one in place.rglob("*") if one.is_file()]
    return {str(one.relative_to(place)): one.read_bytes() for one in files}


@pytest.mark.parametrize("name", WRITERS)
def test_what_is_there_is_whole_or_as_it_was(
    name: str, models: Path, ended: Ending, tmp_path: Path
) -> None:
    given = [str(models / word) if (models / word).exists() else word for word in WRITERS[name]]
    place = tmp_path / ("out.safetensors" if name == "convert file" else "out")
    words = ["lowrank", *given, "-o", str(place), "-q", "--workers", "1"]
    told, status = ended(words, tmp_path, 0, 0)
    assert status == 0
    whole, moments = held(place), int(told)
    assert moments > 3
    assert [one.name for one in tmp_path.iterdir()] == [place.name]
    new = tmp_path / f"new{place.suffix}"
    fresh = [str(new) if word == str(place) else word for word in words]
    for moment, number in (
        (2, signal.SIGKILL), (moments // 2, signal.SIGKILL), (moments // 2, signal.SIGTERM)
    ):  # fmt: skip
        _, status = ended(fresh, tmp_path, moment, number)
        assert status == (-number if number == signal.SIGKILL else 128 + number)
        assert not new.exists()
    told, _ = ended([*words, "--force"], tmp_path, 0, 0)
    last = int(told)
    for moment, number in (
        (last // 2, signal.SIGINT), (last - 2, signal.SIGKILL), (last, signal.SIGKILL)
    ):  # fmt: skip
        ended([*words, "--force"], tmp_path, moment, number)
        assert held(place) == whole
    assert ended(fresh, tmp_path, 0, 0)[1] == 0
    assert ended([*words, "--force"], tmp_path, 0, 0)[1] == 0
    assert held(new) == held(place) == whole
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted([place.name, new.name])
