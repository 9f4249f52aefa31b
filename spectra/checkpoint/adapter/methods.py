"""Ways of adapting a model that are no LoRA, told from the names of their tensors."""

import re
from collections.abc import Iterable

from spectra.errors import AdapterError
from spectra.text import quote, shown

METHODS = {
    r"\.hada_[wt]\d": "LoHa",
    r"\.lokr_[wt]\d": "LoKr",
    r"\.oft_(?:blocks|diag|R|r)\b": "OFT",
    r"\.boft_": "BOFT",
    r"\.(?:ia3_l|on_input)\b": "IA3",
    r"\.vera_lambda_": "VeRA",
    r"\.randlora_": "RandLoRA",
    r"\.fourierft_spectrum": "FourierFT",
    r"\.waveft_spectrum": "WaveFT",
    r"\.hra_u\b": "HRA",
    r"\.(?:bone|miss)_block\b": "MiSS",
    r"\.shira_weight": "SHiRA",
    r"\.c3a_kernel": "C3A",
    r"\.delora_": "DeLoRA",
    r"\.lora_diag": "KaSA",
    r"\.poly_lora_": "Poly",
}
"""Method by what is in a name; no model is known to have such a name."""

BESIDE = {
    r"\.(?:a|b|bm)[12](?:\.weight)?": "GLoRA",
    r"\.[wb]_norm": "norms stored as differences (w_norm)",
    r"\.diff(?:_b)?": "differences of whole tensors (diff)",
    r"\.(?:set|reshape)_weight": "weights of another shape (set_weight)",
    r"\.scalar": "a scalar of its own",
}
"""What is told so where a name begins as kohya's do, or factors lie beside: models may have
such names too. They end the name."""

FLAT = re.compile(r"(?:lora|lycoris)_[^.]*\.")
ANY = re.compile("|".join(METHODS))
ANY_BESIDE = re.compile(f"(?:{'|'.join(BESIDE)})$")


def method_of(names: Iterable[str], *, factors: bool) -> tuple[str, str] | None:
    """Return which other method tensors are of, and the first that tells; None: of none.

    Args:
        names: Of the tensors.
        factors: Whether LoRA's own lie beside them.
    """
    for name in names:
        if ANY.search(name):
            return next(what for word, what in METHODS.items() if re.search(word, name)), name
        if (factors or FLAT.match(name)) and ANY_BESIDE.search(name):
            ends = ((re.compile(f"(?:{word})$"), what) for word, what in BESIDE.items())
            return next(what for ending, what in ends if ending.search(name)), name
    return None


def refusal(spec: str, what: str, name: str) -> AdapterError:
    """Return the error for an adapter of another method."""
    return AdapterError(
        f"{shown(spec)} is an adapter that holds {what} ({quote(name)}), which is not read yet; "
        "expected the factors of LoRA alone. Merge it into its base and give the merged model."
    )
