"""Bytes to tensors: headers first, then one tensor at a time."""

from spectra.checkpoint.adapter.adapter import Adapter
from spectra.checkpoint.adapter.factors import LoraFactors
from spectra.checkpoint.checkpoint import Checkpoint
from spectra.checkpoint.entry import Skipped, TensorEntry
from spectra.checkpoint.locate import open_spec

__all__ = ["Adapter", "Checkpoint", "LoraFactors", "Skipped", "TensorEntry", "open_spec"]
