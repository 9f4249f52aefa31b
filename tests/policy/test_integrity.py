"""Rules about entries: each fires where it must, and not on what only looks like it."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from policy.measured import SETTINGS, breaches, every, facts_of, llama, places, subject, told
from spectra.policy import RULES
from spectra.policy.facts import Facts

Q, K, O = (f"model.layers.2.self_attn.{part}_proj.weight" for part in "qko")  # noqa: E741
DOWN, EMBED, HEAD = (
    "model.layers.3.mlp.down_proj.weight",
    "model.embed_tokens.weight",
    "lm_head.weight",
)


TIED = {"tie_word_embeddings": True}
OTHER = torch.randn(20, 16, generator=torch.Generator().manual_seed(1))


def changed(tensors: dict[str, Tensor], name: str, index: Any, value: float) -> dict[str, Tensor]:  # noqa: ANN401
    """Return tensors with some entries of one set."""
    found = tensors | {name: tensors[name].clone()}
    found[name][index] = value
    return found


def cast(tensors: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    return {name: value.to(dtype) for name, value in tensors.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_healthy_model_raises_nothing(dtype: torch.dtype) -> None:
    own = facts_of(cast(llama(), dtype), SETTINGS)
    assert every(replace(own, base=own, baseline=own)) == []


class TestNonFinite:
    def test_counts_and_the_first_place(self) -> None:
        tensors = changed(llama(), Q, (3, slice(5, 7)), float("nan"))
        tensors[Q][4, 0] = float("inf")
        (breach,) = breaches("SPC001", facts_of(tensors))
        assert breach.message == "2 NaN and 1 Inf, the first at [3, 5]"
        assert (breach.matrix, breach.value, breach.limit) == (Q, 3, 0.0)

    def test_float16_is_explained(self) -> None:
        tensors = changed(cast(llama(), torch.float16), DOWN, (0, 1), float("-inf"))
        assert told("SPC001", facts_of(tensors)) == [
            (DOWN, "1 Inf, the first at [0, 1]; F16 holds at most 65,504")
        ]

    def test_vectors_too(self) -> None:
        tensors = changed(llama(), "model.norm.weight", 7, float("nan"))
        assert told("SPC001", facts_of(tensors)) == [
            ("model.norm.weight", "1 NaN, the first at [7]")
        ]

    def test_what_clips_nothing_may(self) -> None:
        bound = {"layers.0.ffw.input_max": torch.tensor(float("inf"))}
        assert places("SPC001", facts_of(llama() | bound)) == []
        bound = {"layers.0.ffw.input_max": torch.tensor(float("nan"))}
        assert places("SPC001", facts_of(llama() | bound)) == ["layers.0.ffw.input_max"]

    def test_masks_may(self) -> None:
        infinite = torch.full((), float("-inf"))
        masks = {"h.0.attn.masked_bias": infinite, "text.attn_mask": infinite.expand(3, 3).clone(),
                 "h.0.attn.bias": infinite.expand(1, 1, 3, 3).clone()}  # fmt: skip
        assert places("SPC001", facts_of(masks)) == []
        assert places("SPC001", facts_of({"h.0.attn.bias": infinite.expand(3).clone()})) == [
            "h.0.attn.bias"
        ]


class TestZero:
    def test_a_matrix(self) -> None:
        tensors = changed(llama(), DOWN, ..., -0.0)
        assert told("SPC008", facts_of(tensors)) == [(DOWN, "all 16 x 24 entries are 0")]
        assert places("SPC010", facts_of(tensors)) == []  # said once

    def test_an_adapter_never_trained(self) -> None:
        inside = "base_model.model.layers.0.q_proj.lora_"
        tensors = {f"{inside}A.weight": torch.ones(2, 8), f"{inside}B.weight": torch.zeros(8, 2)}
        assert places("SPC008", facts_of(tensors)) == [f"{inside}B.weight"]

    @pytest.mark.parametrize(
        "name",
        ["roberta.embeddings.token_type_embeddings.weight", "model.layers.0.self_attn.q_proj.bias"],
        ids=["RoBERTa's token types", "a bias"],
    )
    def test_what_may_be(self, name: str) -> None:
        shape = (8,) if name.endswith("bias") else (1, 8)
        assert places("SPC008", facts_of({name: torch.zeros(shape)})) == []

    def test_one_entry_is_enough(self) -> None:
        tensors = changed(changed(llama(), DOWN, ..., 0.0), DOWN, (5, 5), 1e-30)
        assert places("SPC008", facts_of(tensors)) == []

    def test_nan_is_not_zero(self) -> None:
        tensors = changed(changed(llama(), DOWN, ..., 0.0), DOWN, (5, 5), float("nan"))
        assert places("SPC008", facts_of(tensors)) == []


class TestDeadRows:
    def test_rows_and_columns(self) -> None:
        tensors = changed(llama(), DOWN, (slice(None), slice(0, 6)), 0.0)
        (breach,) = breaches("SPC010", facts_of(tensors, SETTINGS))
        assert breach.message == "6 of 24 columns are 0: 25 % > 1 % allowed"
        assert (breach.matrix, breach.value, breach.limit) == (DOWN, 0.25, 0.01)
        tensors = changed(llama(), DOWN, 3, 0.0)
        assert told("SPC010", facts_of(tensors)) == [
            (DOWN, "1 of 16 rows is 0: 6.25 % > 1 % allowed")
        ]
        tensors = changed(tensors, DOWN, (slice(None), slice(0, 6)), 0.0)
        assert told("SPC010", facts_of(tensors, SETTINGS)) == [
            (DOWN, "6 of 24 columns are 0: 25 % > 1 % allowed; so is 1 of 16 rows")
        ]

    def test_the_limit_is_a_setting(self) -> None:
        facts = facts_of(changed(llama(), DOWN, 3, 0.0))
        assert told("SPC010", facts, max=0.07) == []
        assert len(told("SPC010", facts, max=0.06)) == 1

    @pytest.mark.parametrize("name", [EMBED, HEAD])
    def test_words_that_nobody_uses(self, name: str) -> None:
        tensors = llama() | {HEAD: torch.randn(20, 16)}
        assert places("SPC010", facts_of(changed(tensors, name, slice(10, 20), 0.0))) == []

    def test_tables_that_are_no_maps(self) -> None:
        table = torch.log(torch.arange(1.0, 9.0)).repeat(6, 1)  # Mamba's, its first column zero
        tensors = {f"backbone.layers.{i}.mixer.A_log": table.clone() for i in range(4)}
        assert every(facts_of(tensors)) == []

    def test_a_head_is_told_once(self) -> None:
        tensors = changed(llama(), Q, slice(4, 8), 0.0)
        assert places("SPC010", facts_of(tensors, SETTINGS)) == []
        tensors = changed(tensors, Q, 0, 0.0)  # and a row of another head
        assert told("SPC010", facts_of(tensors, SETTINGS)) == [
            (Q, "5 of 16 rows are 0; without 4 of whole heads, 6.25 % > 1 % allowed")
        ]


class TestDeadHead:
    @pytest.mark.parametrize(
        ("name", "index", "text"),
        [
            (Q, slice(4, 8), "head 1 of 4 (from 0) is 0: 4 rows each"),
            (Q, slice(0, 9), "heads 0, 1 of 4 (from 0) are 0: 4 rows each"),
            (K, slice(4, 8), "key head 1 of 2 (from 0) is 0: 4 rows each"),
            (O, (slice(None), slice(12, 16)), "head 3 of 4 (from 0) is 0: 4 columns each"),
        ],
        ids=["q", "two", "k", "o"],
    )
    def test_of_each_kind(self, name: str, index: object, text: str) -> None:
        assert told("SPC011", facts_of(changed(llama(), name, index, 0.0), SETTINGS)) == [
            (name, text)
        ]

    def test_of_the_text_part(self) -> None:
        config = {"text_config": SETTINGS, "vision_config": {"num_attention_heads": 8}}
        tensors = changed(llama(), Q, slice(4, 8), 0.0)
        assert len(told("SPC011", facts_of(tensors, config))) == 1
        name = "vision_tower.layers.0.self_attn.q_proj.weight"
        vision = changed({name: torch.randn(16, 16)}, name, slice(2, 4), 0.0)
        assert told("SPC011", facts_of(vision, config)) == [
            (name, "head 1 of 8 (from 0) is 0: 2 rows each")
        ]

    @pytest.mark.parametrize(
        ("name", "index", "config"),
        [
            (Q, slice(5, 9), SETTINGS),
            (Q, slice(4, 8), {}),
            (Q, slice(4, 8), {**SETTINGS, "num_attention_heads": 3}),
            (Q, slice(4, 8), {**SETTINGS, "head_dim": 8}),
            (Q, slice(4, 8), {**SETTINGS, "num_attention_heads": 16}),
            (Q, ..., SETTINGS),
            (O, slice(4, 8), SETTINGS),
            (DOWN, slice(4, 8), SETTINGS),
        ],
        ids=[
            "across two",
            "no config",
            "not divisible",
            "another size",
            "one row",
            "all",
            "o's rows",
            "mlp",
        ],
    )
    def test_what_is_none(self, name: str, index: object, config: dict[str, Any]) -> None:
        assert places("SPC011", facts_of(changed(llama(), name, index, 0.0), config)) == []

    def test_latent_projections_have_none(self) -> None:
        name = "model.layers.0.self_attn.q_a_proj.weight"
        tensors = changed({name: torch.randn(16, 16)}, name, slice(4, 8), 0.0)
        assert places("SPC011", facts_of(tensors, SETTINGS)) == []


class TestSaturated:
    @pytest.mark.parametrize(
        ("dtype", "text"),
        [
            (torch.float16, "2 entries at 65,504, the largest F16"),
            (torch.bfloat16, "2 entries at 3.39e38, the largest BF16"),
        ],
        ids=["f16", "bf16"],
    )
    def test_half_floats(self, dtype: torch.dtype, text: str) -> None:
        top = torch.finfo(dtype).max
        tensors = changed(cast(llama(), dtype), Q, (0, slice(0, 2)), -top)
        assert told("SPC013", facts_of(tensors)) == [(Q, text)]

    def test_a_step_below_is_a_number_like_others(self) -> None:
        tensors = changed(cast(llama(), torch.float16), Q, (0, 0), 65472.0)
        assert places("SPC013", facts_of(tensors)) == []

    def test_masks_and_float32_may(self) -> None:
        mask = torch.full((4, 4), torch.finfo(torch.float16).min).half()
        wide = torch.full((4, 4), torch.finfo(torch.float32).max)
        assert every(facts_of({"causal_mask": mask, "a.weight": wide})) == []


class TestDtypeMix:
    def test_one_of_its_role(self) -> None:
        tensors = cast(llama(), torch.bfloat16)
        tensors[Q] = tensors[Q].float()
        assert told("SPC007", facts_of(tensors)) == [
            (Q, "stored as F32, where 5 of 6 attn.q are BF16")
        ]

    def test_no_majority(self) -> None:
        tensors = cast(llama(), torch.bfloat16)
        for name in [name for name in tensors if ".2." in name or ".3." in name]:
            tensors[name] = tensors[name].float()
        assert places("SPC007", facts_of(tensors)) == []

    def test_roles_and_stacks_apart(self) -> None:
        """A router in float32, norms too, and a vision tower beside the text."""
        tensors = cast(llama(), torch.bfloat16)
        for layer in range(6):
            tensors[f"model.layers.{layer}.mlp.gate.weight"] = torch.randn(4, 16)
            tensors[f"model.layers.{layer}.input_layernorm.weight"] = torch.ones(16)
        tensors["vision_tower.layers.0.self_attn.q_proj.weight"] = torch.randn(16, 16)
        assert places("SPC007", facts_of(tensors)) == []

    def test_quantised_ones_are_left_out(self) -> None:
        facts = facts_of(llama())
        stray = replace(facts.subjects[Q], dtype="F8_E4M3", codec="fp8")
        assert places("SPC007", replace(facts, subjects={**facts.subjects, Q: stray})) == []


class TestDuplicates:
    def test_a_layer_is_told_once(self) -> None:
        tensors = llama()
        for name in [name for name in tensors if ".layers.3." in name]:
            tensors[name.replace(".3.", ".4.")] = tensors[name].clone()
        (breach,) = breaches("SPC009", facts_of(tensors))
        assert breach.message == "layer 4 equals layer 3 of model.layers in all 7 matrices"
        assert breach.matrix is not None
        assert breach.matrix.startswith("model.layers.4.")

    def test_one_matrix(self) -> None:
        tensors = llama()
        later = Q.replace(".2.", ".5.")
        tensors[later] = tensors[Q].clone()
        assert told("SPC009", facts_of(tensors)) == [(later, f"equals {Q}, bit for bit")]

    def test_across_roles(self) -> None:
        tensors = llama()
        tensors[O] = tensors[Q].clone()
        assert places("SPC009", facts_of(tensors)) == [Q]  # o comes before q

    @pytest.mark.parametrize(
        ("twins", "value"),
        [
            ((EMBED, HEAD), torch.randn(20, 16)),
            (("a.weight", "b.weight"), torch.randn(16)),
            (("a.weight", "b.weight"), torch.randn(1, 16)),
            (("a.weight", "b.weight"), torch.zeros(16, 16)),
        ],
        ids=["tied", "vectors", "one row", "zeros"],
    )
    def test_what_may_be_equal(self, twins: tuple[str, str], value: Tensor) -> None:
        tensors = llama() | {name: value.clone() for name in twins}
        assert places("SPC009", facts_of(tensors)) == []

    def test_one_bit_is_enough(self) -> None:
        tensors = llama()
        tensors[Q] = tensors[O].clone()
        tensors[Q][0, 0] = tensors[Q][0, 0].nextafter(torch.tensor(9.0))
        assert places("SPC009", facts_of(tensors)) == []


class TestUntied:
    def facts(self, head: Tensor | None, config: dict[str, Any], **more: Tensor) -> Facts:
        """A model with this head."""
        return facts_of(llama() | ({} if head is None else {HEAD: head}) | more, config)

    def test_a_head_of_its_own(self) -> None:
        text = f"tie_word_embeddings is true, but it differs from {EMBED}"
        assert told("SPC012", self.facts(OTHER, TIED)) == [(HEAD, text)]
        nested = {"text_config": TIED}
        assert places("SPC012", self.facts(OTHER, nested)) == [HEAD]
        known = TIED | {"architectures": ["LlamaForCausalLM"]}
        assert places("SPC012", self.facts(OTHER, known)) == [HEAD]

    @pytest.mark.parametrize(
        ("head", "config"),
        [
            (llama()[EMBED], TIED),
            (None, TIED),
            (OTHER, {}),
            (OTHER, {"tie_word_embeddings": False}),
            (OTHER, {"tie_word_embeddings": False, "text_config": TIED}),
            (llama()[EMBED].bfloat16(), TIED),
            (torch.randn(24, 16), TIED),
            (OTHER, TIED | {"architectures": ["LukeForMaskedLM"]}),
        ],
        ids=["tied", "not stored", "not said", "not tied", "said both ways", "another dtype",
             "another shape", "of a class that ties none"],
    )  # fmt: skip
    def test_what_is_none(self, head: Tensor | None, config: dict[str, Any]) -> None:
        assert places("SPC012", self.facts(head, config)) == []


def test_settings_switch_a_rule_off_for_a_matrix() -> None:
    facts = facts_of(changed(changed(llama(), Q, ..., 0.0), DOWN, (0, 0), float("nan")), SETTINGS)
    for code, place in (("SPC001", DOWN), ("SPC008", Q)):
        judge = RULES[code].judge
        assert [one.matrix for one in judge(facts, lambda _name: {})] == [place]
        assert list(judge(facts, lambda _name: None)) == []


def test_a_subject_is_measured_as_it_is_stored() -> None:
    assert subject("a.weight", torch.ones(3).bfloat16()).dtype == "BF16"
