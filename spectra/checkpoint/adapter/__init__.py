"""LoRA adapters, whoever wrote them: which modules they change, by which factors and scale."""
