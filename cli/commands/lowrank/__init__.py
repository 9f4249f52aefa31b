"""Write adapters: of what a fine-tune changed, smaller ones, sums of several, and other forms.

Nothing is half-written: an adapter's folder is there whole, or not at all, and none is
overwritten without --force.

Example: spectra lowrank resize minilm-lora-r8/ --energy 0.9 -o smaller/
"""
