"""Adapters written by hand: what is refused by name, and what older writers leave behind."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import save_file

from spectra.checkpoint import Adapter, open_spec
from spectra.checkpoint.adapter.settings import settings_of
from spectra.errors import AdapterError, CheckpointError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PLAIN = {"peft_type": "LORA", "r": 2, "lora_alpha": 4}


def written(folder: Path, tensors: Mapping[str, tuple[int, ...]], **settings: object) -> Path:
    """Write an adapter by hand: tensor shapes by name, and settings over PLAIN."""
    (folder / CONFIG).write_text(json.dumps({**PLAIN, **settings}))
    save_file({name: torch.ones(shape) for name, shape in tensors.items()}, folder / WEIGHTS)
    return folder


def pair(module: str = "m", rank: int = 2) -> dict[str, tuple[int, ...]]:
    return {f"{module}.lora_A.weight": (rank, 5), f"{module}.lora_B.weight": (7, rank)}


def refusal(folder: Path, kind: type[CheckpointError] = AdapterError) -> str:
    """Return the error's text, after checking that it is one plain line."""
    with pytest.raises(kind) as caught:
        open_spec(folder)
    assert type(caught.value) is kind
    assert str(caught.value).isprintable()
    assert str(caught.value).endswith(".")
    return str(caught.value)


def opened(folder: Path) -> Adapter:
    found = open_spec(folder)
    assert isinstance(found, Adapter)
    return found


def scale(config: Mapping[str, object], module: str) -> float:
    return settings_of(config, [module])[module].scale


class TestMethodsRefusedByName:
    @pytest.mark.parametrize(
        ("setting", "value", "words"),
        [
            ("peft_type", None, "of type None, expected LORA"),
            ("peft_type", "LO\x1bRA", r"of type 'LO\x1bRA', expected LORA"),
            ("init_lora_weights", "corda", "'corda', which changes the base"),
            ("init_lora_weights", "loftq", "'loftq', which changes the base"),
            ("init_lora_weights", "lora_ga", "'lora_ga', which changes the base"),
            ("alora_invocation_tokens", [5], "uses aLoRA, whose update holds only after"),
            ("layer_replication", [[0, 2], [1, 3]], "uses layer_replication"),
            ("use_qalora", True, "uses QA-LoRA"),
            ("arrow_config", {"top_k": 2}, "uses Arrow routing"),
            ("use_next_years_lora", True, "uses the setting 'use_next_years_lora'"),
            ("next_years_config", {"gain": 2}, "uses the setting 'next_years_config', which is"),
            ("init_lora_weights", "spectral", "'spectral', which is not known: it may change"),
        ],
    )
    def test_by_setting(self, tmp_path: Path, setting: str, value: object, words: str) -> None:
        assert words in refusal(written(tmp_path, pair(), **{setting: value}))

    @pytest.mark.parametrize(
        ("extra", "words"),
        [
            (
                "lora_magnitude_vector",
                "has a lora_magnitude_vector, but adapter_config.json says use_dora = None. Give",
            ),
            ("lora_diag", "uses KaSA"),
        ],
    )
    def test_by_a_tensor_that_the_settings_do_not_mention(
        self, tmp_path: Path, extra: str, words: str
    ) -> None:
        assert words in refusal(written(tmp_path, {**pair(), f"m.{extra}": (7,)}))

    @pytest.mark.parametrize("setting", ["unsloth_fixed", "ensure_weight_tying", "megatron_core"])
    def test_not_by_settings_that_change_no_values(self, tmp_path: Path, setting: str) -> None:
        assert opened(written(tmp_path, pair(), **{setting: True})).factors["m"].scale == 2

    def test_not_by_a_setting_that_is_off(self, tmp_path: Path) -> None:
        assert opened(written(tmp_path, pair(), next_years_config=None)).factors


class TestFactorsThatDoNotFit:
    @pytest.mark.parametrize("side", ["A", "B"])
    def test_a_missing_half(self, tmp_path: Path, side: str) -> None:
        tensors = {f"m\x1b.lora_{side}.weight": (2, 2)}
        text = refusal(written(tmp_path, tensors))
        assert rf"module 'm\x1b' has lora_{side} alone, expected lora_A and lora_B" in text

    @pytest.mark.parametrize(
        ("a", "b"),
        [
            ((2, 5), (7, 3)),
            ((2, 5), (7,)),
            ((2, 5, 3), (7, 2)),
            ((2, 4, 3, 3), (8, 1, 1, 1)),
        ],
        ids=["ranks", "vector", "axes", "grouped-convolution"],
    )
    def test_shapes(self, tmp_path: Path, a: tuple[int, ...], b: tuple[int, ...]) -> None:
        text = refusal(written(tmp_path, {"m.lora_A.weight": a, "m.lora_B.weight": b}))
        assert f"has lora_A {list(a)} and lora_B {list(b)}, expected [r, in] and [out, r]" in text

    def test_a_convolution_that_is_no_1_x_1(self, tmp_path: Path) -> None:
        tensors = {"m.lora_A.weight": (2, 4, 3), "m.lora_B.weight": (5, 2, 3)}
        assert "has lora_B [5, 2, 3], expected a 1 x 1 conv" in refusal(written(tmp_path, tensors))

    def test_an_embedding_of_three_axes(self, tmp_path: Path) -> None:
        tensors = {"m.lora_embedding_A": (2, 4, 1), "m.lora_embedding_B": (5, 2, 1)}
        assert "expected [r, in] and [out, r]" in refusal(written(tmp_path, tensors))

    def test_a_rank_the_config_does_not_give(self, tmp_path: Path) -> None:
        text = refusal(written(tmp_path, pair(rank=3)))
        assert "module 'm' has factors of rank 3, but adapter_config.json gives r = 2" in text

    @pytest.mark.parametrize(
        "other",
        ["m.lora_A.default.weight", "base_model.model.m.lora_A.weight"],
    )
    def test_two_names_for_one_factor(self, tmp_path: Path, other: str) -> None:
        text = refusal(written(tmp_path, {**pair(), other: (2, 5)}))
        assert f"'{other}'" in text
        assert "which mean the same tensor" in text

    def test_two_names_for_one_saved_tensor(self, tmp_path: Path) -> None:
        tensors = {"h.modules_to_save.weight": (2,), "h.modules_to_save.default.weight": (2,)}
        assert "which mean the same tensor" in refusal(written(tmp_path, tensors))

    def test_both_kinds_for_one_module(self, tmp_path: Path) -> None:
        tensors = {"m.lora_embedding_A": (2, 5), "m.lora_embedding_B": (7, 2)}
        text = refusal(written(tmp_path, {**pair(), **tensors}))
        assert "module 'm' has factors of an embedding and of a linear layer" in text

    def test_no_factor_at_all(self, tmp_path: Path) -> None:
        text = refusal(written(tmp_path, {"m.lora_B.bias": (2,)}))
        assert "holds no LoRA factors (lora_A, lora_B) in adapter_model.safetensors" in text

    def test_weights_that_hold_nothing(self, tmp_path: Path) -> None:
        text = refusal(written(tmp_path, {}))
        assert "holds no tensors at all, expected LoRA factors" in text
        assert "DeepSpeed ZeRO-3" in text

    @pytest.mark.parametrize("empty", ["m.lora_A.weight", "head.weight", "head.bias"])
    def test_parameters_that_were_not_gathered(self, tmp_path: Path, empty: str) -> None:
        text = refusal(written(tmp_path, {**pair(), empty: (0,)}))
        assert f"tensors without elements ('{empty}' [0])" in text
        assert "DeepSpeed ZeRO-3 saves when parameters are not gathered" in text
        assert "zero_to_fp32.py" in text

    def test_several_adapters_in_one_file(self, tmp_path: Path) -> None:
        tensors = {"m.lora_A.policy.weight": (2, 5), "m.lora_A.reference.weight": (2, 5)}
        text = refusal(written(tmp_path, tensors))
        assert "holds 2 adapters, 'policy', 'reference': which one is meant is unknown" in text


class TestFiles:
    @pytest.mark.parametrize(
        ("name", "words"), [("other", "no weights"), ("adapter_model.bin", "(PyTorch pickle)")]
    )
    def test_missing_weights(self, tmp_path: Path, name: str, words: str) -> None:
        (tmp_path / CONFIG).write_text(json.dumps(PLAIN))
        (tmp_path / name).touch()
        text = refusal(tmp_path, CheckpointError)
        assert words in text
        assert "expected adapter_model.safetensors. " in text
        assert "ave the adapter with safetensors (`save_pretrained(folder)`)" in text
        assert ("--allow-pickle" in text) == (name == "adapter_model.bin")

    def test_a_broken_config(self, tmp_path: Path) -> None:
        written(tmp_path, pair())
        (tmp_path / CONFIG).write_text("{")
        assert f"{CONFIG} is not JSON" in refusal(tmp_path, CheckpointError)

    def test_names_of_older_writers(self, tmp_path: Path) -> None:
        adapter = opened(
            written(
                tmp_path,
                {
                    "m.lora_A.default.weight": (2, 5),
                    "m.lora_B.default.weight": (7, 2),
                    "h.modules_to_save.default.weight": (3,),
                    "e.base_layer.weight": (4,),
                },
            )
        )
        assert adapter.factors["m"].shape == (7, 5)
        assert set(adapter.saved) == {"h.weight", "e.weight"}

    def test_a_module_name_with_control_characters(self, tmp_path: Path) -> None:
        adapter = opened(written(tmp_path, pair("a\x00\nb\x00")))
        assert adapter.factors["a\x00\nb\x00"].kind == "linear"

    def test_whole_tensors_alone_are_an_adapter(self, tmp_path: Path) -> None:
        assert set(opened(written(tmp_path, {"base_model.model.h.weight": (3,)})).saved) == {
            "h.weight"
        }


class TestSettings:
    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"r": None}, "r of 'm' is None, expected a number of at least 1"),
            ({"r": 0}, "r of 'm' is 0, expected a number of at least 1"),
            ({"r": True}, "r of 'm' is True, expected a number"),
            ({"r": "2"}, "r of 'm' is '2', expected a number"),
            ({"lora_alpha": None}, "lora_alpha of 'm' is None, expected a number of at least 0"),
            ({"lora_alpha": -1}, "lora_alpha of 'm' is -1, expected a number of at least 0"),
            ({"lora_alpha": float("inf")}, "lora_alpha of 'm' is inf, expected"),
            ({"lora_alpha": float("nan")}, "lora_alpha of 'm' is nan, expected"),
            ({"rank_pattern": [1]}, "rank_pattern is [1], expected an object from module patterns"),
            ({"alpha_pattern": "x"}, "alpha_pattern is 'x', expected an object"),
            ({"alpha_pattern": {"m": None}}, "lora_alpha of 'm' is None"),
            ({"rank_pattern": {"(": 1}}, "rank_pattern holds '(', expected a regular expression"),
            ({"rank_pattern": {"(?<\x1b": 1}}, r"rank_pattern holds '(?<\x1b', expected a reg"),
            ({"alpha_pattern": {"a{99999999999}": 1}}, "(the repetition number is too large)"),
            ({"alpha_pattern": {"(" * 9999: 1}}, "(maximum recursion depth exceeded"),
        ],
        ids=lambda value: ascii(value)[:40] if isinstance(value, dict) else "",
    )
    def test_what_is_no_number_or_no_pattern(
        self, tmp_path: Path, settings: dict[str, object], words: str
    ) -> None:
        text = refusal(written(tmp_path, pair(), **settings))
        assert words in text
        assert len(text) < 600

    def test_the_first_pattern_that_fits_counts(self) -> None:
        config = {"r": 8, "lora_alpha": 8, "alpha_pattern": {"x": 1, "q": 16, "a.q": 32}}
        assert scale(config, "a.q") == 2
        assert scale(config, "a.qq") == 1
        assert scale(config, "q") == 2

    def test_patterns_may_be_missing(self) -> None:
        config = {"r": 4, "lora_alpha": 8, "rank_pattern": None, "use_rslora": True}
        assert scale(config, "m") == 4

    @pytest.mark.parametrize(
        "module", ["blocks.1.up", "xblocks.1.up", "a.blocks.1.up", "up", "b\nup"]
    )
    @pytest.mark.parametrize(
        "pattern", ["up", r"blocks\.1\.up", "^blocks.1.up", ".*up", "p", "a|up"]
    )
    def test_patterns_fit_where_peft_says_so(self, module: str, pattern: str) -> None:
        table = {pattern: 16}
        chosen = table.get(peft.utils.other.get_pattern_key(list(table), module), 8)
        assert scale({"r": 8, "lora_alpha": 8, "alpha_pattern": table}, module) == chosen / 8


def test_messages_name_the_adapter(tmp_path: Path) -> None:
    text = refusal(written(tmp_path, pair(), use_qalora=True))
    assert re.match(re.escape(str(tmp_path)) + " uses QA-LoRA", text)
