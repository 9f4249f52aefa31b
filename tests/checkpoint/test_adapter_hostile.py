"""Adapters that nobody trained: patterns without an end, settings of any type, wrong shapes."""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import peft
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from spectra.checkpoint import Adapter, open_spec
from spectra.checkpoint.adapter import patterns
from spectra.checkpoint.adapter.opening import open_adapter
from spectra.checkpoint.adapter.patterns import SAFE, first_fits
from spectra.checkpoint.local import LocalFolder
from spectra.errors import AdapterError, CheckpointError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PLAIN = {"peft_type": "LORA", "r": 2, "lora_alpha": 4}
PAIR: Mapping[str, tuple[int, ...]] = {"m.lora_A.weight": (2, 5), "m.lora_B.weight": (7, 2)}
ROWS: Mapping[str, tuple[int, ...]] = {"e.token_adapter.trainable_tokens_delta": (2, 5)}


def written(folder: Path, tensors: Mapping[str, tuple[int, ...]], **chosen: object) -> Path:
    (folder / CONFIG).write_text(json.dumps({**PLAIN, **chosen}))
    save_file({name: torch.ones(shape) for name, shape in tensors.items()}, folder / WEIGHTS)
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(AdapterError) as caught:
        open_spec(folder)
    text = str(caught.value)
    assert text.isprintable()
    assert text.endswith(".")
    assert len(text) < 700
    return text


class TestPatterns:
    @pytest.mark.parametrize("table", ["rank_pattern", "alpha_pattern"])
    @pytest.mark.parametrize(
        "pattern", ["(a+)+b", "(a|a)*b", "(.*)*x"], ids=["nested", "either", "dots"]
    )
    def test_one_that_would_take_for_ever_is_refused(
        self, table: str, pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(patterns, "SECONDS", 0.5)
        name = "a" * 60
        tensors = {f"{name}.lora_A.weight": (2, 5), f"{name}.lora_B.weight": (7, 2)}
        text = refusal(written(tmp_path, tensors, **{table: {"q": 1, pattern: 2}}))
        assert f"matching {table} takes more than 0.5 seconds, at {pattern!r}" in text
        assert "Write the modules' names in it." in text

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits address space")
    def test_one_that_would_take_all_memory_is_refused(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(patterns, "MEMORY", 64 << 20)
        with pytest.raises(AdapterError, match=r"matching t takes more memory than it is given"):
            first_fits({"t": ["x", "(?:(a)|b)*"]}, ["a" * 2_000_000], CONFIG)

    def test_a_wrong_one_is_named_though_another_fits_first(self, tmp_path: Path) -> None:
        text = refusal(written(tmp_path, PAIR, alpha_pattern={"m": 2, "a)(": 1, "(?P<": 3}))
        assert "alpha_pattern holds '(?P<', expected a regular expression" in text

    def test_plain_names_need_no_other_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def never(*_args: object) -> None:
            raise AssertionError

        monkeypatch.setattr(patterns, "_apart", never)
        table = [f"model.layers.{i}.self_attn.q_proj" for i in range(90)] + [r"^a\.b", "b_c/d-e"]
        modules = [f"base.model.layers.{i}.self_attn.q_proj" for i in range(90)]
        found = first_fits({"t": table}, modules, CONFIG)["t"]
        assert found == dict(zip(modules, table, strict=False))

    def test_a_table_too_large_for_here_is_matched_apart(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(patterns, "DIRECT", 10)
        assert first_fits({"t": ["b", "a.b"]}, ["a.b", "c"], CONFIG) == {"t": {"a.b": "b"}}

    @pytest.mark.filterwarnings("ignore:Possible (nested set|set .*) at position:FutureWarning")
    @given(
        st.lists(st.text("ab.\\^$|*?+()[]", max_size=6), min_size=1, max_size=6),
        st.lists(st.text("ab.\n", max_size=8), min_size=1, max_size=4, unique=True),
    )
    @settings(max_examples=60)
    def test_the_first_that_fits_is_what_peft_finds(
        self, table: Sequence[str], modules: Sequence[str]
    ) -> None:
        usable = [pattern for pattern in table if _compiles(pattern)]
        if not usable:
            return
        found = first_fits({"t": usable}, modules, CONFIG)["t"]
        for module in modules:
            key = peft.utils.other.get_pattern_key(usable, module)
            if module in found:
                assert found[module] == key
            else:
                assert not any(re.match(rf"(.*\.)?({p})$", module) for p in usable)

    @given(st.from_regex(SAFE, fullmatch=True))
    def test_what_is_matched_here_repeats_nothing(self, pattern: str) -> None:
        assert not set(pattern) & set("*+?{}()[]|$")


def _compiles(pattern: str) -> bool:
    try:
        re.compile(rf"(.*\.)?({pattern})$")
    except (re.error, OverflowError):
        return False
    return True


class TestSettingsOfAnyType:
    @pytest.mark.parametrize(
        ("chosen", "words"),
        [
            ({"use_rslora": "yes"}, "use_rslora is 'yes', expected true or false"),
            ({"use_dora": 1}, "use_dora is 1, expected true or false"),
            ({"target_parameters": "experts"}, "target_parameters is 'experts', expected a list"),
            ({"target_parameters": [3]}, "target_parameters is [3], expected a list of texts"),
            ({"r": 10**400}, "r of 'm' is "),
            ({"lora_alpha": 10**400}, "lora_alpha of 'm' is "),
            ({"r": 2.5}, "gives r = 2.5"),
            ({"r": [2]}, "r of 'm' is [2], expected a number"),
            ({"rank_pattern": {"m": {"x": 1}}}, "r of 'm' is {'x': 1}, expected a number"),
            ({"use_dora": True}, "has no lora_magnitude_vector, but adapter_config.json says"),
            ({"peft_type": ["LORA"]}, "of type ['LORA'], expected LORA"),
            ({"peft_type": "NEXT"}, "of type 'NEXT', expected LORA or another method that is read"),
            ({"peft_type": "VERA"}, "holds no tensors of VeRA in adapter_model.safetensors"),
            ({"peft_type": "TRAINABLE_TOKENS"}, "a factor of LoRA, but adapter_config.json says"),
        ],
        ids=lambda value: ascii(value)[:40] if isinstance(value, dict) else "",
    )
    def test_is_one_line(self, chosen: dict[str, object], words: str, tmp_path: Path) -> None:
        assert words in refusal(written(tmp_path, PAIR, **chosen))

    @pytest.mark.parametrize("value", [None, False, [], {}, 0, ""], ids=repr)
    @pytest.mark.parametrize(
        "key", ["layer_replication", "kasa_config", "alora_invocation_tokens", "use_bdlora"]
    )
    def test_what_is_switched_off_is_no_method(
        self, key: str, value: object, tmp_path: Path
    ) -> None:
        assert isinstance(open_spec(written(tmp_path, PAIR, **{key: value})), Adapter)

    @pytest.mark.parametrize(
        "value",
        [None, 5, "x", [1, 1], [1, -2], [1.0, 2], [True, 2], {"f": [1, 2]}, {"e": 3},
         {"e": [1, 2], "": [1, 3]}],
        ids=repr,
    )  # fmt: skip
    def test_row_numbers(self, value: object, tmp_path: Path) -> None:
        text = refusal(written(tmp_path, ROWS, trainable_token_indices=value))
        assert "trainable_token_indices of 'e' is " in text
        assert "expected a list of distinct row numbers" in text

    def test_more_row_numbers_than_rows(self, tmp_path: Path) -> None:
        text = refusal(written(tmp_path, ROWS, trainable_token_indices=[1, 2, 3]))
        assert "is F32 [2, 5], expected 3 rows of floating point" in text


class TestTensors:
    @pytest.mark.parametrize("shape", [(5,), (7, 7)])
    def test_a_magnitude_of_another_size(self, shape: tuple[int, ...], tmp_path: Path) -> None:
        tensors = {**PAIR, "m.lora_magnitude_vector": shape}
        text = refusal(written(tmp_path, tensors, use_dora=True))
        assert f"has lora_magnitude_vector {list(shape)}, expected 7 entries" in text

    @pytest.mark.parametrize("end", ["", ".weight", ".default", ".default.weight"])
    def test_magnitudes_as_older_writers_name_them(self, end: str, tmp_path: Path) -> None:
        tensors = {**PAIR, f"m.lora_magnitude_vector{end}": (7,)}
        adapter = open_spec(written(tmp_path, tensors, use_dora=True))
        assert isinstance(adapter, Adapter)
        assert adapter.factors["m"].magnitude is not None

    def test_a_magnitude_alone(self, tmp_path: Path) -> None:
        tensors = {**PAIR, "m.lora_magnitude_vector": (7,), "n.lora_magnitude_vector": (7,)}
        text = refusal(written(tmp_path, tensors, use_dora=True))
        assert "module 'n' has a lora_magnitude_vector alone" in text

    def test_factors_of_whole_numbers(self, tmp_path: Path) -> None:
        written(tmp_path, {})
        whole = {name: torch.ones(shape, dtype=torch.int8) for name, shape in PAIR.items()}
        save_file(whole, tmp_path / WEIGHTS)
        assert "'m.lora_A.weight' of dtype I8, expected floating point" in refusal(tmp_path)

    def test_empty_factors(self, tmp_path: Path) -> None:
        tensors = {"m.lora_A.weight": (0, 5), "m.lora_B.weight": (7, 0)}
        assert "2 of 2 tensors without elements ('m.lora_A.weight' [0, 5], ...)" in refusal(
            written(tmp_path, tensors)
        )

    def test_a_stack_whose_rows_do_not_divide_by_the_rank(self, tmp_path: Path) -> None:
        tensors = {"x.experts.lora_A.weight": (7, 5), "x.experts.lora_B.weight": (4, 7)}
        text = refusal(written(tmp_path, tensors, target_parameters=["experts.down"]))
        assert (
            "module 'x.experts' has factors of rank 7, but adapter_config.json gives r = 2" in text
        )

    def test_names_without_measure_are_read_in_no_time(self, tmp_path: Path) -> None:
        name = "x" + ".base_layer" * 40_000
        tensors = {f"{name}.lora_A.weight": (2, 5), f"{name}.lora_B.weight": (4, 2)}
        targets = [f"{i}.down" for i in range(50_000)]
        adapter = open_spec(written(tmp_path, tensors, target_parameters=["x.down", *targets]))
        assert isinstance(adapter, Adapter)
        (factors,) = adapter.factors.values()
        assert (factors.module, factors.count) == ("x", 1)

    def test_copies_of_a_saved_module_count_once(self, tmp_path: Path) -> None:
        tensors = {
            **PAIR,
            "base_model.model.e.weight": (4, 3),
            "base_model.model.e.modules_to_save.weight": (4, 3),
            "base_model.model.e.original_module.weight": (4, 3),
        }
        adapter = open_spec(written(tmp_path, tensors))
        assert isinstance(adapter, Adapter)
        assert adapter.saved["e.weight"].name == "base_model.model.e.weight"
        assert {item.reason for item in adapter.skipped} == {
            "a copy of the tensor of the plain name",
            "values from before the training",
        }


class TestPickles:
    def test_are_opened_where_that_is_allowed(self, tmp_path: Path) -> None:
        written(tmp_path, {})
        (tmp_path / WEIGHTS).unlink()
        values = {name: torch.randn(shape) for name, shape in PAIR.items()}
        torch.save(values, tmp_path / "adapter_model.bin")
        adapter = open_spec(tmp_path, allow_pickle=True)
        assert isinstance(adapter, Adapter)
        factors = adapter.factors["m"]
        assert torch.equal(adapter.weights.read(factors.a), values["m.lora_A.weight"])
        with pytest.raises(CheckpointError, match=r"Allow it with --allow-pickle"):
            open_spec(tmp_path)

    def test_safetensors_go_before_them(self, tmp_path: Path) -> None:
        written(tmp_path, PAIR)
        (tmp_path / "adapter_model.bin").write_bytes(b"never read")
        folder = LocalFolder(str(tmp_path), tmp_path)
        assert set(open_adapter(folder, allow_pickle=True).weights.files) == {WEIGHTS}
