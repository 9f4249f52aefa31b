"""`python -m spectra_cli` is `spectra`."""

from .main import main

main()
