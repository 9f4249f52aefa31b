"""`python -m spectra_cli` is `spectra`."""

from .entry import main

main()
