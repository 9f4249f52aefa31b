"""The table of what transformers' models hold: made by building every class on no device."""
