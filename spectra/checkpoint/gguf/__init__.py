"""GGUF files: a strict header, blocks decoded one matrix at a time, names and order put back."""
