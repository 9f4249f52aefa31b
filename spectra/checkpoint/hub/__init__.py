"""Repositories of the Hub: a commit pinned, tensors read by range."""
