"""What transformers' architectures hold and how they name it: tables generated from its code."""
