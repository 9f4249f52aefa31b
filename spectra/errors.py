"""The errors a user can meet, each one line: what, got, expected, what to do next."""

from spectra.wording import worded


class SpectraError(Exception):
    """Base of every error that spectra raises on purpose; its text is one line."""

    def __str__(self) -> str:
        """Say it in the words of who reads it: of Python, or of the command line."""
        return worded(super().__str__())


class UsageError(SpectraError):
    """An option or argument that cannot be meant as written."""


class ClusterError(UsageError):
    """A cluster that cannot be joined, or not be started."""


class CheckpointError(SpectraError):
    """A checkpoint that cannot be read as what it claims to be."""


class CorruptError(CheckpointError):
    """Stored values of one tensor that cannot be meant; others are none the worse for it."""


class HeaderError(CheckpointError):
    """A safetensors header that breaks the format's rules."""


class AdapterError(CheckpointError):
    """An adapter whose update cannot be computed as written."""


class PairingError(SpectraError):
    """Base and tuned tensors that do not belong together."""


class NonFiniteError(SpectraError):
    """NaN or Inf where a number is needed."""


class OutputError(SpectraError):
    """A file that cannot be written."""


class NothingToAnalyseError(SpectraError):
    """No matrix is left to analyse; the command line exits with 3."""
