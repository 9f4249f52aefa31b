"""Where a run computes."""

from spectra.deferred import torch
from spectra.errors import UsageError
from spectra.text import guess

NVIDIA = ("gpu", "nvidia", "gpu:0")
"""What may stand for `cuda`; by its letters, 'gpu' is closest to 'cpu'."""


def wrong_device(word: str) -> str:
    """Say why a word names no devices, and what may be meant; empty where it does."""
    names = word.split(",")
    for name in names:
        kind, colon, number = name.partition(":")
        if name not in ("auto", "cpu", "cuda") and not (
            kind == "cuda" and colon and number.isascii() and number.isdecimal()
        ):
            low = name.lower()
            near = guess("cuda" if low in NVIDIA else low, ("auto", "cpu", "cuda", "cuda:0"))
            return (
                f"{name!r} is not known.{near} Expected auto, cpu, cuda or cuda:N, or several "
                "GPUs: cuda:0,cuda:1."
            )
    if len(names) > 1 and (other := next((name for name in names if ":" not in name), "")):
        return f"{word!r} has {other} among several. Expected GPUs by number alone: cuda:0,cuda:1."
    numbers = [int(name.partition(":")[2]) for name in names if ":" in name]
    if len(set(numbers)) < len(numbers):
        twice = next(one for one in numbers if numbers.count(one) > 1)
        return f"{word!r} names cuda:{twice} twice. Name each once."
    return ""


def known_device(device: "str | torch.device") -> str:
    """Return a device, or several, as named, whether or not they are there.

    Raises:
        UsageError: One is none, or is named twice, or not all are GPUs.
    """
    wanted = str(device)
    if told := wrong_device(wanted):
        raise UsageError(f"--device {told}")
    return wanted


def meant(wanted: str) -> str:
    """Return what `auto` is here; others as they are."""
    if wanted != "auto":
        return wanted
    return "cuda" if torch.cuda.is_available() else "cpu"


def chosen_device(device: "str | torch.device") -> str:
    """Return the torch device that `auto` means here, or those named.

    Args:
        device: `auto` takes a GPU where there is one; or `cpu`, `cuda`, `cuda:N`, or several:
            `cuda:0,cuda:1`.

    Raises:
        UsageError: One is none, or not there.
    """
    wanted = known_device(device)
    if wanted == "auto":
        return meant(wanted)
    for name in wanted.split(","):
        count = torch.cuda.device_count() if name.startswith("cuda") else 1
        if int(name.partition(":")[2] or 0) >= count:
            raise UsageError(
                f"--device {name} is not there: torch sees {count} CUDA devices. Use --device cpu."
            )
    return wanted
