"""`python -m spectra` is `spectra`, which stands on top of this package and is only named here."""

import runpy

runpy.run_module("spectra_cli", run_name="__main__", alter_sys=True)
