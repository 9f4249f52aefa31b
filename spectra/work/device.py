"""Where a run computes."""

from typing import TYPE_CHECKING

from spectra.errors import UsageError
from spectra.text import guess

if TYPE_CHECKING:
    import torch


NVIDIA = ("gpu", "nvidia", "gpu:0")
"""What may stand for `cuda`; by its letters, 'gpu' is closest to 'cpu'."""


def unknown_device(word: str) -> str:
    """Say that a word is no device, and what may be meant."""
    low = word.lower()
    near = guess("cuda" if low in NVIDIA else low, ("auto", "cpu", "cuda", "cuda:0"))
    return f"{word!r} is not known.{near} Expected auto, cpu, cuda or cuda:N."


def known_device(device: "str | torch.device") -> str:
    """Return a device as it is named, whether or not it is there.

    Raises:
        UsageError: It is none.
    """
    wanted = str(device)
    name, _, number = wanted.partition(":")
    if wanted not in ("auto", "cpu", "cuda") and not (name == "cuda" and number.isdecimal()):
        raise UsageError(f"--device {unknown_device(wanted)}")
    return wanted


def chosen_device(device: "str | torch.device") -> str:
    """Return the torch device that `auto` means here, or the one named.

    Args:
        device: `auto` takes a GPU where there is one; or `cpu`, `cuda`, `cuda:N`.

    Raises:
        UsageError: The device is none, or not there.
    """
    wanted = known_device(device)
    number = wanted.partition(":")[2]
    import torch  # noqa: PLC0415 - only what computes needs it

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted.startswith("cuda"):
        count = torch.cuda.device_count()
        if int(number or 0) >= count:
            raise UsageError(
                f"--device {wanted} is not there: torch sees {count} CUDA devices. "
                "Use --device cpu."
            )
    return wanted
