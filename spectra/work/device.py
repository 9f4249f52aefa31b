"""Where a run computes."""

from spectra.errors import UsageError


def chosen_device(wanted: str) -> str:
    """Return the torch device that `auto` means here, or the one named.

    Args:
        wanted: `auto` takes a GPU where there is one; or `cpu`, `cuda`, `cuda:N`.

    Raises:
        UsageError: The device is not there.
    """
    import torch  # noqa: PLC0415 - only what computes needs it

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted.startswith("cuda"):
        count = torch.cuda.device_count()
        index = int(wanted.partition(":")[2] or 0)
        if index >= count:
            raise UsageError(
                f"--device {wanted} is not there: torch sees {count} CUDA devices. "
                "Use --device cpu."
            )
    return wanted
