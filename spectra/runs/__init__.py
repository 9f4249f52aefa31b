"""Planned analyses of one model, a pair or several, and how they run."""
