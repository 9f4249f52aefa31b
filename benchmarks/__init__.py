"""The figures in docs/performance.md: `make bench`, on an otherwise idle machine."""
