"""PEFT's methods other than LoRA: what each stores for a module, as a change of its weight."""
