"""Adapters that others than PEFT wrote: what they are told from, and what is refused by name."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from spectra.checkpoint import Adapter, Checkpoint, open_spec
from spectra.checkpoint.damaged import open_damaged
from spectra.errors import AdapterError, CheckpointError

UNET = "lora_unet_down_blocks_0_to_q"
FLAT = {f"{UNET}.lora_down.weight": (2, 5), f"{UNET}.lora_up.weight": (7, 2)}
Shapes = Mapping[str, tuple[int, ...]]


def written(path: Path, tensors: Shapes, metadata: dict[str, str] | None = None) -> Path:
    save_file({name: torch.ones(shape) for name, shape in tensors.items()}, path, metadata)
    return path


def adapter(path: Path, **options: Any) -> Adapter:  # noqa: ANN401 - those of open_spec
    """Open an adapter, and check that `check` opens the same."""
    found = open_spec(path, **options)
    assert isinstance(found, Adapter)
    again = open_damaged(path, **options).checkpoint
    assert isinstance(again, Adapter)
    assert again.factors == found.factors
    return found


def refusal(path: Path) -> str:
    """Return the error's text, one plain line, the same from either way of opening."""
    texts = set()
    for way in (open_spec, open_damaged):
        with pytest.raises(CheckpointError) as caught:
            way(path)
        texts.add(str(caught.value))
    (text,) = texts
    assert text.isprintable()
    assert text.endswith(".")
    return text


class TestKohya:
    @pytest.mark.parametrize(
        ("alpha", "scale"),
        [(torch.tensor(1.0), 0.5), (torch.tensor([3.0], dtype=torch.bfloat16), 1.5),
         (torch.tensor(4.0, dtype=torch.float16), 2), (torch.tensor(1, dtype=torch.int64), 0.5),
         (None, 1)],
        ids=["F32", "BF16", "F16", "I64", "absent"],
    )  # fmt: skip
    def test_alpha(self, tmp_path: Path, alpha: torch.Tensor | None, scale: float) -> None:
        tensors = {name: torch.ones(shape) for name, shape in FLAT.items()}
        if alpha is not None:
            tensors[f"{UNET}.alpha"] = alpha
        save_file(tensors, tmp_path / "kohya.safetensors")
        found = adapter(tmp_path / "kohya.safetensors")
        assert (found.factors[UNET].rank, found.factors[UNET].scale) == (2, scale)
        assert (found.naming, found.coat, found.assumed) == ("flat", "kohya", "")
        assert not found.saved
        assert not found.skipped

    @pytest.mark.parametrize("alpha", [float("nan"), 0.0, -1.0, float("inf")])
    def test_alpha_that_is_no_positive_number(self, tmp_path: Path, alpha: float) -> None:
        tensors = {name: torch.ones(shape) for name, shape in FLAT.items()}
        save_file(tensors | {f"{UNET}.alpha": torch.tensor(alpha)}, tmp_path / "k.safetensors")
        text = refusal(tmp_path / "k.safetensors")
        assert f"'{UNET}.alpha' is {alpha:g}, expected a number above 0" in text

    def test_what_the_file_says_of_itself(self, tmp_path: Path) -> None:
        told = {"ss_network_module": "networks.lora", "ss_base_model_version": "sdxl_base_v1-0"}
        found = adapter(written(tmp_path / "k.safetensors", FLAT, told))
        assert found.coat == "kohya (networks.lora, sdxl_base_v1-0)"

    def test_pickled(self, tmp_path: Path) -> None:
        torch.save({name: torch.ones(shape) for name, shape in FLAT.items()}, tmp_path / "k.pt")
        assert set(adapter(tmp_path / "k.pt", allow_pickle=True).factors) == {UNET}

    def test_texts_of_its_own_are_left_out(self, tmp_path: Path) -> None:
        tensors = {**FLAT, "bundle_emb.word.string_to_param.*": (2, 3)}
        found = adapter(written(tmp_path / "k.safetensors", tensors))
        assert [item.tensor for item in found.skipped] == ["bundle_emb.word.string_to_param.*"]

    def test_a_tensor_that_nobody_knows(self, tmp_path: Path) -> None:
        text = refusal(written(tmp_path / "k.safetensors", {**FLAT, f"{UNET}.gain": (7,)}))
        assert f"holds '{UNET}.gain' beside its factors, which is not known" in text

    def test_a_half_alone(self, tmp_path: Path) -> None:
        text = refusal(written(tmp_path / "k.safetensors", {f"{UNET}.lora_up.weight": (7, 2)}))
        assert f"has '{UNET}.lora_up.weight' alone, expected both factors" in text

    def test_lengths_alone(self, tmp_path: Path) -> None:
        tensors = {**FLAT, "lora_unet_other.dora_scale": (7, 1)}
        text = refusal(written(tmp_path / "k.safetensors", tensors))
        assert "'lora_unet_other' has 'lora_unet_other.dora_scale' alone" in text

    def test_an_alpha_alone_changes_nothing(self, tmp_path: Path) -> None:
        found = adapter(written(tmp_path / "k.safetensors", {**FLAT, "lora_unet_other.alpha": ()}))
        assert set(found.factors) == {UNET}

    def test_lora_mid_that_does_not_fit(self, tmp_path: Path) -> None:
        tensors = {
            f"{UNET}.lora_down.weight": (2, 5, 1, 1), f"{UNET}.lora_up.weight": (7, 2, 1, 1),
            f"{UNET}.lora_mid.weight": (2, 3, 3, 3),
        }  # fmt: skip
        text = refusal(written(tmp_path / "k.safetensors", tensors))
        assert "lora_mid [2, 3, 3, 3], expected [r, in, 1, 1] and [r, r, height, width]" in text

    def test_a_file_that_is_cut(self, tmp_path: Path) -> None:
        path = written(tmp_path / "k.safetensors", {**FLAT, f"{UNET}.alpha": ()})
        path.write_bytes(path.read_bytes()[:-30])
        assert "the download was cut" in refusal(path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (f"{UNET}.oft_blocks", "OFT"),
        (f"{UNET}.a1.weight", "GLoRA"),
        (f"{UNET}.w_norm", "norms stored as differences"),
        (f"{UNET}.diff", "differences of whole tensors"),
        (f"{UNET}.diff_b", "differences of whole tensors"),
        (f"{UNET}.on_input", "IA3"),
        ("base_model.model.h.0.attn.ia3_l", "IA3"),
        ("base_model.model.h.0.attn.vera_lambda_b", "VeRA"),
        ("base_model.model.h.0.attn.lokr_w1", "LoKr"),
    ],
)
@pytest.mark.parametrize("beside", [{}, FLAT], ids=["alone", "beside LoRA"])
def test_other_methods_are_refused_by_name(
    tmp_path: Path, name: str, words: str, beside: Shapes
) -> None:
    text = refusal(written(tmp_path / "other.safetensors", {name: (4, 4), **beside}))
    assert f"is an adapter that holds {words}" in text
    assert "which is not read yet" in text


@pytest.mark.parametrize("module", [UNET, "diffusion_model.blocks.0.q"])
class TestLycoris:
    def test_two_methods_in_one_file(self, tmp_path: Path, module: str) -> None:
        hada = {f"{module}.hada_w{n}_{side}": (4, 2) if side == "a" else (2, 4)
                for n in (1, 2) for side in "ab"}  # fmt: skip
        kron = {f"{module}_1.lokr_w1": (2, 2), f"{module}_1.lokr_w2": (2, 3)}
        found = adapter(
            written(tmp_path / "k.safetensors", {**hada, **kron, f"{module}.alpha": ()})
        )
        assert found.method == "LoHa and LoKr"
        assert {name: own.shape for name, own in found.updates.items()} == {
            module: (4, 4), f"{module}_1": (4, 6),
        }  # fmt: skip
        assert dict(found.updates[module].told)["scale"] == 0.5

    @pytest.mark.parametrize(
        ("tensors", "words"),
        [
            ({"hada_w1_a": (4, 2)}, "has tensors of LoRA beside those of LoHa, or lacks some"),
            ({"hada_w1_b": (2, 4)}, "lacks hada_w1_a, which LoHa needs beside hada_w1_b"),
            ({"lokr_w1": (4, 4)}, "has lokr_w1 [4, 4], which make no LoKr update"),
            ({"lokr_w1": (4, 4), "lora_down.weight": (2, 4), "lora_up.weight": (4, 2)},
             "has tensors of LoRA beside those of LoKr"),
        ],
    )  # fmt: skip
    def test_what_is_lacking(
        self, tmp_path: Path, module: str, tensors: Shapes, words: str
    ) -> None:
        named = {f"{module}.{part}": shape for part, shape in tensors.items()}
        assert words in refusal(written(tmp_path / "k.safetensors", named))


class TestModelsAreNoAdapters:
    @pytest.mark.parametrize(
        "tensors",
        [
            {"a1.weight": (4, 4), "net.diff": (4, 4), "net.w_norm": (4,)},
            {"q.base_layer.weight": (4, 4), "q.lora_A.speech.weight": (2, 4),
             "q.lora_A.vision.weight": (2, 4), "q.lora_B.speech.weight": (4, 2)},
            {"q.weight": (4, 4), "q.lora_A.weight": (2, 4), "q.lora_B.weight": (4, 2)},
            {"q.parametrizations.weight.original": (4, 4),
             "q.parametrizations.weight.0.lora_A": (5, 2, 4),
             "q.parametrizations.weight.0.lora_B": (5, 4, 2)},
            {"att.w_lora.lora.0.weight": (2, 4), "att.w_lora.lora.2.weight": (4, 2),
             "att.q.weight": (4, 4)},
            {"q.lora_A.weight": (2, 4), "q.lora_B.weight": (4, 2), "k.weight": (4, 4),
             "v.weight": (4, 4)},
        ],
        ids=["words of kohya", "several inside", "beside its weight", "jina", "rwkv", "few"],
    )  # fmt: skip
    def test_that_have_such_names(self, tmp_path: Path, tensors: Shapes) -> None:
        path = written(tmp_path / "model.safetensors", tensors)
        assert isinstance(open_spec(path), Checkpoint)
        assert isinstance(open_damaged(path).checkpoint, Checkpoint)


class TestPeftWithoutItsSettings:
    def test_the_scale_is_assumed_and_said(self, tmp_path: Path) -> None:
        start = "base_model.model.model.layers.0.q_proj"
        tensors = {
            f"{start}.lora_A.weight": (2, 5), f"{start}.lora_B.weight": (7, 2),
            "base_model.model.embed.lora_embedding_A": (3, 9),
            "base_model.model.embed.lora_embedding_B": (5, 3),
            "base_model.model.lm_head.weight": (9, 5), f"{start}.lora_B.bias": (7,),
        }  # fmt: skip
        found = adapter(written(tmp_path / "adapter_model.safetensors", tensors).parent)
        assert found.factors["model.layers.0.q_proj"].scale == 1
        assert found.factors["embed"].kind == "embedding"
        assert found.assumed == (
            "there is no adapter_config.json, so alpha is not known: scale 1 (alpha = rank) is "
            "assumed"
        )
        assert set(found.saved) == {"lm_head.weight"}
        reason = "a bias that is scaled with its factors (lora_bias)"
        assert [item.reason for item in found.skipped] == [reason]

    def test_not_where_alpha_lies_beside(self, tmp_path: Path) -> None:
        tensors = {"q.lora_A.weight": (2, 5), "q.lora_B.weight": (7, 2), "q.alpha": ()}
        found = adapter(written(tmp_path / "a.safetensors", tensors))
        assert (found.factors["q"].scale, found.assumed) == (0.5, "")

    def test_two_names_for_one_factor(self, tmp_path: Path) -> None:
        tensors = {"q.lora_A.weight": (2, 5), "q.lora_down.weight": (2, 5)}
        text = refusal(written(tmp_path / "a.safetensors", tensors))
        assert "'q.lora_A.weight' and 'q.lora_down.weight', which mean the same tensor" in text


class TestDiffusers:
    PAIR: ClassVar[Shapes] = {"unet.q.lora_A.weight": (2, 5), "unet.q.lora_B.weight": (7, 2)}

    def saved(self, folder: Path, told: object) -> Path:
        metadata = {"lora_adapter_metadata": told if isinstance(told, str) else json.dumps(told)}
        return written(folder / "pytorch_lora_weights.safetensors", self.PAIR, metadata)

    def test_without_metadata_alpha_is_the_rank(self, tmp_path: Path) -> None:
        found = adapter(written(tmp_path / "pytorch_lora_weights.safetensors", self.PAIR).parent)
        assert found.factors["unet.q"].scale == 1
        assert (found.naming, found.coat, found.assumed) == ("parts", "diffusers", "")

    def test_metadata_holds_the_settings_of_peft(self, tmp_path: Path) -> None:
        told = {"unet.r": 4, "unet.lora_alpha": 6, "unet.use_rslora": True,
                "unet.rank_pattern": {"q": 2}, "text_encoder.r": 9}  # fmt: skip
        assert adapter(self.saved(tmp_path, told)).factors["unet.q"].scale == 6 / 2**0.5

    @pytest.mark.parametrize(
        ("told", "words"),
        [
            ("[", "lora_adapter_metadata is no JSON object"),
            ({"unet.r": 3, "unet.lora_alpha": 1}, "but lora_adapter_metadata gives r = 3"),
            ({"unet.r": 2, "unet.init_lora_weights": "pissa"}, "'pissa', which changes the base"),
        ],
    )
    def test_metadata_that_does_not_do(self, tmp_path: Path, told: object, words: str) -> None:
        assert words in refusal(self.saved(tmp_path, told))

    @pytest.mark.parametrize(
        ("name", "module"),
        [
            ("unet.b.attn1.processor.to_q_lora.{}.weight", "unet.b.attn1.to_q"),
            ("unet.b.attn1.processor.to_out_lora.{}.weight", "unet.b.attn1.to_out.0"),
            ("unet.b.attn1.to_out.0.lora.{}.weight", "unet.b.attn1.to_out.0"),
            ("text_encoder.l.self_attn.to_out_lora.{}.weight", "text_encoder.l.self_attn.out_proj"),
            ("text_encoder.l.fc1.lora_linear_layer.{}.weight", "text_encoder.l.fc1"),
            ("transformer.b.to_q.lora_{}.weight", "transformer.b.to_q"),
        ],
    )
    def test_names_of_all_times(self, tmp_path: Path, name: str, module: str) -> None:
        tensors = {name.format("down"): (2, 5), name.format("up"): (7, 2)}
        assert set(adapter(written(tmp_path / "a.safetensors", tensors)).factors) == {module}

    def test_dora_of_the_inputs_is_refused(self, tmp_path: Path) -> None:
        text = refusal(
            written(tmp_path / "a.safetensors", {**self.PAIR, "unet.q.dora_scale": (1, 5)})
        )
        assert "'unet.q.dora_scale' is [1, 5]: lengths of the inputs" in text


class TestMlx:
    PAIR: ClassVar[Shapes] = {"m.q_proj.lora_a": (5, 2), "m.q_proj.lora_b": (2, 7)}
    TOLD: ClassVar[dict[str, Any]] = {"fine_tune_type": "lora", "num_layers": 1,
            "lora_parameters": {"rank": 2, "scale": 20.0, "dropout": 0.0}}  # fmt: skip

    def saved(self, folder: Path, tensors: Shapes = PAIR, **settings: object) -> Path:
        (folder / "adapter_config.json").write_text(json.dumps({**self.TOLD, **settings}))
        return written(folder / "adapters.safetensors", tensors, {"format": "mlx"}).parent

    @pytest.mark.parametrize("file", ["", "adapters.safetensors", "adapter_config.json"])
    def test_factors_the_other_way_round(self, tmp_path: Path, file: str) -> None:
        found = adapter(self.saved(tmp_path) / file)
        factors = found.factors["m.q_proj"]
        assert (factors.shape, factors.rank, factors.scale) == ((7, 5), 2, 20)
        assert (found.coat, found.assumed) == ("mlx-lm", "")

    def test_an_alpha_of_2024(self, tmp_path: Path) -> None:
        told = {"rank": 2, "alpha": 16, "scale": 10.0}
        settings: dict[str, Any] = {"lora_layers": 1, "lora_parameters": told}
        found = adapter(self.saved(tmp_path, self.PAIR, **settings))
        assert found.factors["m.q_proj"].scale == 10
        assert "lora_parameters gives alpha beside scale: scale alone counts" in found.assumed

    def test_full_fine_tuning_stores_whole_tensors(self, tmp_path: Path) -> None:
        found = adapter(self.saved(tmp_path, {"m.q_proj.weight": (7, 5)}, fine_tune_type="full"))
        assert set(found.saved) == {"m.q_proj.weight"}
        assert not found.factors

    @pytest.mark.parametrize(
        ("tensors", "settings", "words"),
        [
            (PAIR, {"lora_parameters": {"rank": 2}}, "scale of lora_parameters is None"),
            (PAIR, {"fine_tune_type": "adapter"}, "was trained as 'adapter', expected lora, dora"),
            (PAIR, {"fine_tune_type": "dora"}, "module 'm.q_proj' has no m"),
            ({"m.q_proj.lora_a": (5, 2)}, {}, "has lora_a alone"),
            ({"m.q_proj.weight": (5, 2)}, {}, "holds no factors (lora_a, lora_b)"),
            ({**PAIR, "m.q_proj.lora_b": (3, 7)}, {}, "expected [r, in] and [out, r]"),
            ({**PAIR, "m.q_proj.lora_b": (7,)}, {}, "expected floating point, [in, r] and"),
            (
                {"m.e.lora_a": (3, 4, 5), "m.e.lora_b": (3, 7, 2)}, {},
                "expected [experts, r, in] and [experts, out, r]",
            ),
            (
                {"embed.lora_a": (5, 2), "embed.lora_b": (2, 7), "embed.m": (5,)},
                {"fine_tune_type": "dora"}, "is an embedding with DoRA",
            ),
            ({"m.q_proj.lora_a": (0, 2)}, {}, "without elements"),
            ({**PAIR, "m.k_proj.lokr_w1": (2, 2)}, {}, "is an adapter that holds LoKr"),
        ],
    )  # fmt: skip
    def test_what_is_refused(
        self, tmp_path: Path, tensors: Shapes, settings: dict[str, object], words: str
    ) -> None:
        assert words in refusal(self.saved(tmp_path, tensors, **settings))

    def test_without_its_settings(self, tmp_path: Path) -> None:
        text = refusal(written(tmp_path / "adapters.safetensors", self.PAIR))
        assert "factors as mlx-lm names them (lora_a, lora_b) and no settings" in text


class TestGguf:
    PAIR: ClassVar[Shapes] = {
        "blk.0.attn_v.weight.lora_a": (2, 5),
        "blk.0.attn_v.weight.lora_b": (7, 2),
    }

    def saved(self, folder: Path, tensors: Shapes = PAIR, kind: str = "lora", **more: Any) -> Path:  # noqa: ANN401 - GGUF's values
        writer = gguf.GGUFWriter(folder / "lora.gguf", "llama")
        writer.add_string("general.type", "adapter")
        writer.add_string("adapter.type", kind)
        for key, value in {"adapter.lora.alpha": 8.0, **more}.items():
            if isinstance(value, list):
                writer.add_array(key, value)
            elif value is not None:
                writer.add_float32(key, value)
        for name, shape in tensors.items():
            writer.add_tensor(name, np.ones(shape, np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return folder / "lora.gguf"

    @pytest.mark.parametrize(("alpha", "scale"), [(8.0, 4), (0.0, 1)])
    def test_alpha(self, tmp_path: Path, alpha: float, scale: float) -> None:
        found = adapter(self.saved(tmp_path, self.PAIR, "lora", **{"adapter.lora.alpha": alpha}))
        assert found.factors["blk.0.attn_v.weight"].scale == scale
        assert (found.coat, found.naming) == ("GGUF", "gguf")

    @pytest.mark.parametrize(
        ("tensors", "kind", "more", "words"),
        [
            (PAIR, "control", {}, "is a GGUF adapter of type 'control', expected lora"),
            (PAIR, "lora", {"adapter.lora.alpha": None}, "gives adapter.lora.alpha as None"),
            (PAIR, "lora", {"adapter.alora.invocation_tokens": [1, 2]}, "is an aLoRA"),
            ({"blk.0.attn_v.weight.lora_a": (2, 5)}, "lora", {}, "has lora_a alone"),
            ({"blk.0.attn_norm.weight": (5,)}, "lora", {}, "holds no factors (lora_a, lora_b)"),
            ({**PAIR, "blk.0.attn_v.weight.lora_b": (7, 3)}, "lora", {}, "expected [r, in] and"),
        ],
    )
    def test_what_is_refused(
        self, tmp_path: Path, tensors: Shapes, kind: str, more: dict[str, Any], words: str
    ) -> None:
        assert words in refusal(self.saved(tmp_path, tensors, kind, **more))


def test_a_header_without_tensors_is_a_model_of_none(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
    assert isinstance(open_spec(tmp_path / "x.safetensors"), Checkpoint)


def test_errors_are_adapter_errors(tmp_path: Path) -> None:
    with pytest.raises(AdapterError):
        open_spec(written(tmp_path / "x.safetensors", {f"{UNET}.lokr_w1": (2, 2)}))
