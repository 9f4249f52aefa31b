"""Heads as families make them: tiny models' own attention, told from their files alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import families
from matrices import tiny
from spectra.analyzers.heads import Heads
from spectra.analyzers.heads_factors import Lines, lines_of
from spectra.checkpoint import Checkpoint, open_spec
from spectra.matrices import Matrix
from spectra.matrices.attention import Module, attentions
from spectra.matrices.view import views_of

TEXTS = (
    "llama", "mistral", "mixtral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "phi3", "granite",
    "granitemoe", "smollm3", "gpt_oss", "olmoe", "olmo", "olmo2", "starcoder2", "stablelm", "phi",
    "cohere", "glm", "glm4", "deepseek_v2", "deepseek_v3", "gemma", "gemma2", "gemma3_text",
    "gpt_neox", "falcon", "gptj", "gpt2", "gpt_neo", "bloom", "mpt", "opt", "bert", "roberta",
    "electra", "distilbert",
)  # fmt: skip
IMAGES = "vit", "deit", "dinov2"
BOTH = "bart", "marian", "mbart", "pegasus", "t5", "mt5", "whisper"
TOWERS = "clip", "siglip"
ALIBI = "bloom", "mpt"
UNBOUNDED = ("marian",)  # whose first layers read what no norm has seen
LENGTH = 6
TOKENS = torch.tensor([[5, 17, 3, 29, 11, 8]])


def random(model: Any) -> Any:  # noqa: ANN401 - a PreTrainedModel
    """Give every number of a model a value of its own, in float64."""
    torch.manual_seed(20250506)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "relative_attention_bias" in name:
                parameter.zero_()
            elif name.endswith("sinks"):
                parameter.fill_(-1e4)
            elif parameter.ndim == 1 and not name.endswith("bias"):
                parameter.uniform_(0.5, 1.5)
            else:
                parameter.normal_(std=0.2)
    model.set_attn_implementation("eager")
    return model.eval()


class Seen:
    """What a model's modules of attention read, wrote and attended to."""

    def __init__(self, model: Any, modules: list[Module]) -> None:  # noqa: ANN401 - as above
        self.query: dict[str, Tensor] = {}
        self.key: dict[str, Tensor] = {}
        self.written: dict[str, Tensor] = {}
        for one in modules:
            homes = {"q_down" if "q_down" in one.parts else "q": self.query,
                     "down" if "down" in one.parts else "k": self.key}  # fmt: skip
            for role, seen in homes.items():
                _module(model, one, role).register_forward_hook(_keep(seen, one, inputs=True))
            _module(model, one, "o").register_forward_hook(_keep(self.written, one, inputs=False))


def _module(model: Any, one: Module, role: str) -> Any:  # noqa: ANN401 - as above
    return model.get_submodule(one.parts[role].entry.name.removesuffix(".weight"))


def _keep(seen: dict[str, Tensor], one: Module, *, inputs: bool) -> Any:  # noqa: ANN401 - a hook
    def hook(_module: Any, args: Any, output: Any) -> None:  # noqa: ANN401 - as torch calls it
        found = args[0] if inputs else output
        seen[one.about.module] = found.detach().double().reshape(-1, found.shape[-1])

    return hook


def built(family: str) -> Any:  # noqa: ANN401 - as above
    """Return a tiny model."""
    if family == "deepseek_v2":
        return tiny.build("deepseek-v2")
    return families.build(family)


def image(config: Any) -> Tensor:  # noqa: ANN401 - a configuration
    """Return an image of the size that a model takes."""
    return torch.randn(1, 3, config.image_size, config.image_size)


def ran(model: Any, family: str) -> Any:  # noqa: ANN401 - as above
    """Return the model's output; all positions are 0 where they rotate."""
    settings: dict[str, Any] = {"output_attentions": True}
    if family in TOWERS:
        parts = {
            "text": (model.text_model, {"input_ids": TOKENS}),
            "vision": (model.vision_model, {"pixel_values": image(model.config.vision_config)}),
        }
        return {
            f"{name}_attentions": part(**given, **settings).attentions
            for name, (part, given) in parts.items()
        }
    if family in IMAGES:
        settings["pixel_values"] = image(model.config)
    elif family == "whisper":
        config = model.config
        length = 2 * config.max_source_positions
        settings["input_features"] = torch.randn(1, config.num_mel_bins, length)
    else:
        settings["input_ids"] = TOKENS
    if family in BOTH:
        settings["decoder_input_ids"] = TOKENS.flip(1)
    spec = {"gptj", "falcon", "phi", "gpt_neox"}
    if family in spec or getattr(model.config, "rope_parameters", None) is not None:
        settings["position_ids"] = torch.zeros_like(TOKENS)
    return model(**settings)


def attended(output: Any, one: Module) -> Tensor:  # noqa: ANN401 - a ModelOutput
    """Return what a module attended to: heads x queries x keys."""
    name = "attentions"
    if "text_attentions" in output:
        name = f"{one.about.module.partition('_')[0]}_attentions"
    if "decoder_attentions" in output:
        own = "decoder" if one.about.module.startswith(("decoder", "model.decoder")) else "encoder"
        name = "cross_attentions" if one.about.across else f"{own}_attentions"
    found: Tensor = output[name][one.layer][0]
    return found.double()


def values(checkpoint: Checkpoint, one: Module) -> dict[str, Matrix]:
    """Return what belongs to a module, in float64."""
    return {role: Matrix(view, view.of(checkpoint.read(view.entry)).double())
            for role, view in one.parts.items()}  # fmt: skip


def unit(read: Tensor, held: dict[str, Matrix], norm: str, *, one_more: bool) -> Tensor:
    """Return the normalised stream that a module's projection read, before gain and offset."""
    gain, offset = (held[f"{norm}.{word}"].values.flatten() if f"{norm}.{word}" in held else None
                    for word in ("gain", "offset"))  # fmt: skip
    gain = gain + 1.0 if gain is not None and one_more else gain
    read = read if offset is None else read - offset
    return read if gain is None else read / gain


def normed(lines: Tensor, about: Any, held: dict[str, Matrix], role: str) -> Tensor:  # noqa: ANN401
    """Divide queries or keys [tokens, heads, size], gains in them, as their norm does."""
    if not about.each:
        return lines
    gain = held[f"{role}.gain"].values.flatten() + (1.0 if about.each == "rms1" else 0.0)
    whole = gain.numel() > about.size or lines.shape[1] == 1
    bare = lines / gain.reshape(-1, about.size)
    return lines / bare.square().mean(dim=(1, 2) if whole else 2, keepdim=True).sqrt()


def logits(one: Module, lines: Lines, held: dict[str, Matrix], x: Tensor, y: Tensor) -> Tensor:
    """Return heads x queries x keys of the plain definition, from folded lines."""
    about = one.about
    queries = torch.einsum("hsd,td->ths", lines.queries, x)
    keys = torch.einsum("hsd,td->ths", lines.keys, y)
    if about.latent:
        plain = about.size - about.turning
        down = held["down"].values * _gain(held, "before")
        keys[..., :plain] /= (y @ down.mT).square().mean(dim=1).sqrt()[:, None, None]
        if "q_down" in held:
            inner = held["q_down"].values * _gain(held, "before")
            queries /= (x @ inner.mT).square().mean(dim=1).sqrt()[:, None, None]
    elif lines.logits[0].query.bias is not None:
        queries += torch.cat([p.query.bias for p in lines.logits if p.query.bias is not None], 1)
        if lines.logits[0].key.bias is not None:
            keys += torch.cat([p.key.bias for p in lines.logits if p.key.bias is not None], 1)
    queries, keys = normed(queries, about, held, "q"), normed(keys, about, held, "k")
    found = torch.einsum("ahs,bhs->hab", queries, keys[:, lines.key_of]) * (about.scale or 0.0)
    return found if about.cap is None else about.cap * torch.tanh(found / about.cap)


def _gain(held: dict[str, Matrix], norm: str) -> Tensor:
    return held[f"{norm}.gain"].values.flatten()


@pytest.mark.parametrize("family", [*TEXTS, *IMAGES, *BOTH, *TOWERS])
def test_folded_heads_attend_and_write_as_the_models_own(family: str, tmp_path: Path) -> None:
    model = random(built(family))
    model.save_pretrained(tmp_path, save_original_format=False)
    checkpoint = open_spec(tmp_path)
    assert isinstance(checkpoint, Checkpoint)
    modules, _, notes = attentions(checkpoint, views_of(checkpoint)[0])
    assert modules
    assert not notes
    seen = Seen(model, modules)
    with torch.no_grad():
        output = ran(model, family)
    for one in modules:
        about, held = one.about, values(checkpoint, one)
        assert about.known
        lines = lines_of(about, held)
        norms = (
            ("before", about.before),
            (("through", about.through) if about.across else ("before", about.before)),
        )
        reads = zip((seen.query, seen.key), norms, strict=True)
        x, y = (unit(read[about.module], held, norm, one_more=kind == "rms1")
                for read, (norm, kind) in reads)  # fmt: skip
        for stream, (_, kind) in zip((x, y), norms, strict=True):
            if kind:
                size = stream.square().mean(dim=1)
                assert_close(size, torch.ones_like(size), rtol=2e-2, atol=2e-2)
                assert kind != "layer" or float(stream.mean(dim=1).abs().max()) < 1e-6
        expected = attended(output, one)
        found = logits(one, lines, held, x, y)
        largest = found.abs().amax(dim=(1, 2)).tolist()
        told = Heads().measure((about, held)).values["heads"]
        assert isinstance(told, list)
        bounds = [row["logit_bound"] for row in told]
        if any(bound is not None for bound in bounds):
            assert all(a <= 1.0001 * b for a, b in zip(largest, bounds, strict=True))
        else:
            assert family in UNBOUNDED
        if family in ALIBI:
            slopes = 2.0 ** (-8.0 * torch.arange(1, about.heads + 1) / about.heads)
            found = found + slopes[:, None, None] * torch.arange(len(y))
        found = found.masked_fill(expected == 0, -torch.inf).softmax(dim=2)
        last = -1 if family == "falcon" else 0  # its eager way adds 1 where it should mask
        assert_close(found[:, last:], expected[:, last:], rtol=1e-3, atol=1e-4)
        written = wrote(one, lines, held, y, expected)
        seen_written = seen.written[about.module]  # its bias falls out of differences
        assert_close(written - written[:1], seen_written - seen_written[:1], rtol=1e-3, atol=1e-3)


def wrote(one: Module, lines: Lines, held: dict[str, Matrix], y: Tensor, shares: Tensor) -> Tensor:
    """Return what the heads write, of the plain definition, before the norm behind them."""
    values = torch.einsum("hsd,td->hts", lines.values, y)
    if one.about.latent:
        down = held["down"].values * _gain(held, "before")
        values /= (y @ down.mT).square().mean(dim=1).sqrt()[:, None]
    moved = torch.einsum("hab,hbs->has", shares, values[lines.key_of])
    found = torch.einsum("has,hsd->ad", moved, lines.written)
    if not one.about.behind:
        return found
    return found / (_gain(held, "behind") + (1.0 if one.about.behind == "rms1" else 0.0))
