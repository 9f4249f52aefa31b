"""PEFT LoRA adapters: which modules they change, by which factors, scale and rules."""
