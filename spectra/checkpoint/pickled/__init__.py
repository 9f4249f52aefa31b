"""PyTorch pickle files, followed as data: nothing in them is run."""
