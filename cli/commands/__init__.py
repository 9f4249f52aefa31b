"""The commands, one file each; `command.py` finds them."""
