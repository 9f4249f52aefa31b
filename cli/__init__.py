"""The command line: one file a command; installs as `spectra_cli`."""
