"""Updates of full rank that need nothing of the base: coefficients of a transform, sparse values.

Each function takes a module's stored tensors by PEFT's names, and what its settings and the base
say, and returns D [rows, cols] of `W' = W + D`, rows = outputs.

Source:
    `get_delta_weight` of PEFT 0.21, method by method; the papers are named at each.
"""

from jaxtyping import Float

from spectra.checkpoint.adapter.updates.products import Parts, Told
from spectra.deferred import Tensor, torch

Update = Float[Tensor, "rows cols"]


def _placed(values: Tensor, told: Told) -> Update:
    """Return zeros but for values at places that a seed tells."""
    rows, cols = told["rows"], told["cols"]
    generator = torch.Generator().manual_seed(told["random_loc_seed"])
    places = torch.randperm(rows * cols, generator=generator)[: len(values)]
    found = torch.zeros(rows * cols, dtype=torch.float32)
    found[places] = values.float() * told["scaling"]
    return found.view(rows, cols)


def fourierft(t: Parts, told: Told) -> Update:
    """Return the real part of the inverse Fourier transform of few coefficients.

    Source:
        Gao et al. 2024, arXiv:2405.03003 (FourierFT).
    """
    found: Tensor = torch.fft.ifft2(_placed(t["fourierft_spectrum"], told)).real
    return found


def waveft(t: Parts, told: Told) -> Update:
    """Return the inverse wavelet transform (db1, one level) of few coefficients, or those alone.

    Source:
        Bilican et al. 2025, arXiv:2505.12532 (WaveFT).
    """
    spectrum = t["waveft_spectrum"]
    if not told["use_idwt"]:
        return _placed(spectrum, told)
    rows, cols = told["rows"], told["cols"]
    padded = spectrum.new_zeros(rows + rows % 2, cols + cols % 2, dtype=torch.float32)
    padded[:rows, :cols] = _placed(spectrum, told)
    (mean, along), (across, both) = (half.chunk(2, dim=1) for half in padded.chunk(2))
    found = torch.empty_like(padded)
    found[0::2, 0::2] = mean + along + across + both
    found[0::2, 1::2] = mean + along - across - both
    found[1::2, 0::2] = mean - along + across - both
    found[1::2, 1::2] = mean - along - across + both
    return found[:rows, :cols] / 2


def c3a(t: Parts, told: Told) -> Update:  # noqa: ARG001 - as all
    """Return circulant blocks, each of one stored vector.

    Source:
        Chen et al. 2025, arXiv:2407.19342 (C3A).
    """
    kernel = t["c3a_kernel"].float()  # [rows / b, cols / b, b]
    count, across, size = kernel.shape
    step = torch.arange(size)
    blocks = kernel[:, :, (step - step[:, None]) % size]  # [m, n, row, column]
    return blocks.permute(0, 2, 1, 3).reshape(count * size, across * size) / (across * size)


def shira(t: Parts, told: Told) -> Update:
    """Return zeros but for values at stored places.

    Source:
        Bhardwaj et al. 2024, arXiv:2406.13175 (SHiRA).
    """
    weight, places = t["shira_weight"], t["shira_indices"].long()
    found: Tensor = weight.new_zeros(told["rows"], told["cols"])
    return found.index_put_(tuple(places), weight, accumulate=True)


def supertuning(t: Parts, told: Told) -> Update:
    """Return zeros but for values at stored places, and a LoRA beside them where there is one."""
    values, places = t["supertuning_values"], t["supertuning_indices"].long()
    found: Tensor = values.new_zeros(told["rows"] * told["cols"]).scatter_add_(0, places, values)
    found = found.view(told["rows"], told["cols"])
    if "supertuning_lora_A.weight" in t:
        a, b = t["supertuning_lora_A.weight"], t["supertuning_lora_B.weight"]
        found += (told["lora_alpha"] / len(a)) * (b @ a)
    return found
