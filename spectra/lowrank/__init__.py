"""What writes adapters: smaller ones, and sums of several.

spectra.lowrank.resize("adapter/", "smaller/", energy=0.95)
"""

from spectra.lowrank.resizing import merge, resize

__all__ = ["merge", "resize"]
