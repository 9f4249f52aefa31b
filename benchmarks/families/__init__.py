"""Every family that transformers knows: the table of renames, and what exports make of each."""
