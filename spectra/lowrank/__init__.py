"""What writes adapters: of what a fine-tune changed, smaller ones, sums, and other forms.

spectra.lowrank.resize("adapter/", "smaller/", energy=0.95)
"""

from spectra.lowrank.converting import convert
from spectra.lowrank.extracting import extract
from spectra.lowrank.initial import init
from spectra.lowrank.masking import mask
from spectra.lowrank.merging import merge
from spectra.lowrank.repairing import repair
from spectra.lowrank.resizing import resize

__all__ = ["convert", "extract", "init", "mask", "merge", "repair", "resize"]


def __dir__() -> list[str]:
    """List what is public; the modules behind it are not."""
    return [*__all__]
