"""Biases that an adapter moves beside the weights of its modules."""

from spectra.checkpoint.adapter.adapter import Adapter
from spectra.checkpoint.adapter.factors import WRAPPERS, bare_names

OF_FACTOR = (".lora_B.bias", ".lora_B.default.bias")


def moved_biases(adapter: Adapter) -> list[str]:
    """Return the biases that an adapter changes without storing them whole.

    They are those of modules whose lora_B has a bias (`lora_bias`), and of methods that act on
    what a layer puts out.
    """
    modules = [own.module for own in adapter.updates.values() if own.bias]
    for name in bare_names([item.tensor for item in adapter.beside]).values():
        modules += [
            WRAPPERS.sub("", f"{name.removesuffix(end)}.")[:-1]
            for end in OF_FACTOR
            if name.endswith(end)
        ]
    return [f"{module}.bias" for module in modules]
