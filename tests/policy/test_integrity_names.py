"""Rules about files, names and shapes: each fires where it must, and not on its near misses."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from policy.measured import SETTINGS, breaches, every, facts_of, llama, places, told
from spectra.checkpoint.damaged import Fault
from spectra.gate.reading import renamed as with_names
from spectra.policy.facts import Facts
from spectra.text import quote

Tensors = dict[str, Tensor]
FIRST, SECOND, THIRD = (f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3))
Q, NORM = "model.layers.2.self_attn.q_proj.weight", "model.layers.2.input_layernorm.weight"
HEAD, EMBED = "lm_head.weight", "model.embed_tokens.weight"


def without(tensors: Tensors, *parts: str) -> Tensors:
    """Return the tensors whose names hold none of these."""
    return {name: value for name, value in tensors.items()
            if not any(part in name for part in parts)}  # fmt: skip


def biased() -> Tensors:
    """The decoder with a bias beside each linear map."""
    tensors = llama()
    biases = {
        name.replace("weight", "bias"): torch.ones(len(value))
        for name, value in tensors.items()
        if "_proj." in name
    }
    return tensors | biases


def renamed(tensors: Tensors, rename: Callable[[str], str]) -> Tensors:
    return {rename(name): value for name, value in tensors.items()}


def beside(own: Tensors, other: Tensors, word: str = "baseline", **more: Any) -> Facts:  # noqa: ANN401
    """A model and its baseline or base."""
    return facts_of(own, more.pop("config", SETTINGS), **{word: facts_of(other, SETTINGS)}, **more)


def indexed(index: dict[str, str], held: dict[str, str], **more: Any) -> Facts:  # noqa: ANN401
    return Facts(subjects={}, index=index, held=held, **more)


class TestTruncated:
    def test_file_and_tensors(self) -> None:
        faults = (Fault(FIRST, "is cut", tuple("dacb")), Fault(SECOND, "is not in the folder"))
        first, second = breaches("SPC002", Facts(subjects={}, faults=faults))
        assert first.message == f"{FIRST} is cut; 4 tensors lost: a, b, c and 1 more"
        assert (first.file, first.value, first.matrix) == (FIRST, 4, None)
        assert second.message == f"{SECOND} is not in the folder"

    def test_none(self) -> None:
        assert breaches("SPC002", facts_of(llama())) == []


class TestIndex:
    def test_what_no_shard_holds(self) -> None:
        (breach,) = breaches("SPC003", indexed({"a": FIRST, "b": FIRST}, {"a": FIRST}))
        assert breach.message == f"the index puts 1 tensor in {FIRST} that it does not hold: b"
        assert (breach.file, breach.value) == (FIRST, 1)

    def test_what_lies_elsewhere_and_what_is_not_named(self) -> None:
        facts = indexed({"a": FIRST, "b": FIRST}, {"a": FIRST, "b": SECOND, "c": SECOND})
        assert [text for _, text in told("SPC003", facts)] == [
            f"the index puts 1 tensor in {FIRST} that lie in {SECOND}: b",
            f"{SECOND} holds 1 tensor that the index does not name: c",
        ]
        assert len(set(places("SPC003", facts))) == 2  # each has a fingerprint of its own

    def test_a_shard_that_is_never_named(self) -> None:
        facts = indexed({"a": FIRST}, {"a": FIRST}, files=(FIRST, THIRD))
        assert told("SPC003", facts) == [
            (THIRD, f"{THIRD} lies in the folder, and the index never names it")
        ]

    @pytest.mark.parametrize(
        "facts",
        [
            indexed({"a": FIRST}, {"a": FIRST}),
            indexed({"a": FIRST, "b": SECOND}, {"a": FIRST}, faults=(Fault(SECOND, "is gone"),)),
            indexed({"a": FIRST}, {"a": FIRST}, files=(
                FIRST, "consolidated.safetensors", "consolidated-00001-of-00002.safetensors",
                "model.fp16-00001-of-00002.safetensors", "adapter_model.safetensors",
            )),
            facts_of(llama()),
        ],
        ids=["alike", "a lost shard", "other series", "no index"],
    )  # fmt: skip
    def test_what_is_none(self, facts: Facts) -> None:
        assert places("SPC003", facts) == []

    def test_a_cut_shard_that_lacks_a_tensor_is_told(self) -> None:
        faults = (Fault(FIRST, "is cut"),)
        facts = indexed({"a": FIRST, "b": FIRST}, {"a": FIRST}, faults=faults)
        assert len(places("SPC003", facts)) == 1


class TestMissing:
    @pytest.mark.parametrize("word", ["baseline", "base"])
    def test_a_tensor_that_the_reference_has(self, word: str) -> None:
        facts = beside(without(llama(), "model.norm"), llama(), word)
        (breach,) = breaches("SPC004", facts)
        assert breach.message == f"is in the {word} and missing here"
        assert breach.matrix == "model.norm.weight"

    def test_once_though_two_references_have_it(self) -> None:
        other = facts_of(llama())
        facts = facts_of(without(llama(), "model.norm"), SETTINGS, base=other, baseline=other)
        assert len(places("SPC004", facts)) == 1

    def test_a_layer_is_told_once(self) -> None:
        facts = beside(without(llama(), ".layers.5."), llama())
        text = "layer 5 of model.layers (8 tensors) is in the baseline and missing here"
        assert told("SPC004", facts) == [("model.layers.5", text)]

    def test_a_stack_is_told_once(self) -> None:
        tower = renamed(llama(4, seed=1), lambda name: f"vision_tower.{name}")
        facts = beside(llama(), llama() | without(tower, "embed", "model.norm"))
        assert told("SPC004", facts) == [
            ("vision_tower.model.layers.",
             "all 4 layers of vision_tower.model.layers are in the baseline and missing here")
        ]  # fmt: skip

    def test_another_architecture_is_said_once(self) -> None:
        other = renamed(llama(), lambda name: name.replace("model.layers", "transformer.h"))
        other[EMBED] = torch.randn(22, 16)
        facts = beside(other, llama(), config={})
        (breach,) = breaches("SPC004", facts)
        assert breach.subject == "baseline"
        assert breach.message == (
            "of the baseline's 50 tensors only 2 have names that occur here: another architecture?"
        )
        assert places("SPC005", facts) == places("SPC006", facts) == []

    def test_by_the_configuration(self) -> None:
        facts = facts_of(llama(5), SETTINGS)
        assert told("SPC004", facts) == [
            ("model.layers.5", "config.json says 6 layers, and model.layers ends with layer 4")
        ]
        nested = {"text_config": SETTINGS, "vision_config": {"num_hidden_layers": 9}}
        assert places("SPC004", facts_of(llama(5), nested)) == ["model.layers.5"]
        assert places("SPC004", beside(llama(5), llama())) == ["model.layers.5"]  # said once

    def test_beside_layers_that_predict_more_tokens(self) -> None:
        more = renamed(llama(1, seed=1), lambda name: name.replace("model.", "mtp."))
        facts = facts_of(llama(5) | without(more, "embed", "mtp.norm"), SETTINGS)
        assert places("SPC004", facts) == ["model.layers.5"]

    @pytest.mark.parametrize("key", ["n_layer", "n_layers", "num_layers"])
    def test_by_other_words_for_layers(self, key: str) -> None:
        assert places("SPC004", facts_of(llama(4), {key: 6})) == ["model.layers.4"]
        assert places("SPC004", facts_of(llama(4), {key: 4})) == []

    def test_a_layer_left_out(self) -> None:
        facts = facts_of(without(llama(), ".layers.2."))
        assert told("SPC004", facts) == [
            ("model.layers.2", "layer 2 of model.layers is missing, and layer 5 is there")
        ]

    @pytest.mark.parametrize("name", [Q, NORM])
    def test_what_the_other_layers_have(self, name: str) -> None:
        facts = facts_of(without(llama(), name))
        assert told("SPC004", facts) == [(name, "is missing: 5 of the other 5 layers have it")]

    def test_a_map_of_the_first_layer(self) -> None:
        name = Q.replace(".2.", ".0.")
        assert places("SPC004", facts_of(without(llama(), name))) == [name]

    @pytest.mark.parametrize("word", ["baseline", "base", None], ids=str)
    def test_a_map_whose_bias_is_there(self, word: str | None) -> None:
        whole = biased()
        cut = without(whole, Q)
        facts = beside(cut, whole, word) if word else facts_of(cut, SETTINGS)
        assert places("SPC004", facts) == [Q]

    def test_a_part_of_a_module_that_no_name_explains(self) -> None:
        name = "neck.layers.1.resize.bias"
        assert places("SPC004", facts_of(without(without_one_module(12), name))) == [name]

    def test_an_expert(self) -> None:
        experts = {f"model.layers.{i}.mlp.experts.{j}.up_proj.weight": torch.randn(4, 16)
                   for i in range(6) for j in range(3)}  # fmt: skip
        name = "model.layers.3.mlp.experts.1.up_proj.weight"
        assert places("SPC004", facts_of(without(llama() | experts, name))) == [name]


def dense_first() -> Tensors:
    """DeepSeek: experts in all layers but the first, which has a wider map of its own."""
    tensors = without(llama(), *(f".{i}.mlp" for i in range(1, 6)))
    return tensors | {f"model.layers.{i}.mlp.{name}.weight": torch.randn(4, 16)
                      for i in range(1, 6) for name in ("gate", "experts.0.up_proj")}  # fmt: skip


def hybrid() -> Tensors:
    """Jamba: one layer in eight has attention, the others a state space."""
    tensors = without(llama(16), *(f".{i}.self_attn" for i in range(16) if i % 8 != 4))
    return tensors | {f"model.layers.{i}.mamba.in_proj.weight": torch.randn(4, 16)
                      for i in range(16) if i % 8 != 4}  # fmt: skip


def with_extra_layer() -> Tensors:
    """DeepSeek-V3: a layer past the last predicts one more token."""
    more = renamed(llama(7), lambda name: name)
    return llama() | {name: more[name] for name in more if ".layers.6." in name} | {
        "model.layers.6.eh_proj.weight": torch.randn(16, 32)
    }  # fmt: skip


def without_first_norm() -> Tensors:
    """ModernBERT: the first layer does without."""
    return without(llama(), ".layers.0.input_layernorm")


def partly_scaled() -> Tensors:
    """Float8 with scales of activations beside all but one layer's maps."""
    return llama() | {f"model.layers.{i}.self_attn.q_proj.input_scale": torch.ones(())
                      for i in range(5)}  # fmt: skip


def two_stacks() -> Tensors:
    """BART: as many layers as it likes on either side."""
    sides = (("encoder", 6), ("decoder", 4))
    return {name.replace("model.", f"model.{side}."): value
            for side, count in sides for name, value in llama(count, count).items()}  # fmt: skip


def shared_layer() -> Tensors:
    """ALBERT: one layer, stored once."""
    return renamed(
        llama(1), lambda name: name.replace("model.layers.0.", "encoder.albert_layers.0.")
    )


def one_layer_again_and_again() -> Tensors:
    """A universal transformer: one layer, used as often as the configuration says."""
    return llama(1)


def with_resampler() -> Tensors:
    """A few layers of another kind between an image and the text."""
    more = renamed(llama(3, seed=1), lambda name: name.replace("model.", "resampler."))
    return llama() | without(more, "embed", "resampler.norm")


def every_other() -> Tensors:
    """Modules in a row, of which those between have no weights."""
    return {f"encoder.layers.{i}.conv.weight": torch.randn(4, 4) for i in range(0, 12, 2)}


def with_convolutions() -> Tensors:
    """Depth Pro: a head of convolutions in a row, and what has no weights between them."""
    head = {f"head.layers.{i}.{end}": torch.randn(4) for i in (0, 1, 2, 4)
            for end in ("weight", "bias")}  # fmt: skip
    return llama() | head


def without_one_module(levels: int = 4) -> Tensors:
    """DPT: one of four levels keeps its size."""
    return {f"neck.layers.{i}.{name}.{end}": torch.randn(4)
            for i in range(levels) for name in ("projection", "resize")
            for end in ("weight", "bias") if (i, name) != (2, "resize")}  # fmt: skip


def of_convolutions() -> Tensors:
    """EfficientNet: no expansion in the first blocks, and a count of all convolutions."""
    return {f"encoder.blocks.{i}.{name}.conv.weight": torch.randn(4, 4, 3, 3)
            for i in range(12) for name in ("expansion", "depthwise")
            if i > 1 or name == "depthwise"}  # fmt: skip


@pytest.mark.parametrize(
    ("make", "config"),
    [
        (with_convolutions, {"num_hidden_layers": 6}), (without_one_module, {}),
        (of_convolutions, {"num_hidden_layers": 64}),
        (dense_first, {}), (hybrid, {"num_hidden_layers": 16}), (with_extra_layer, {}),
        (without_first_norm, {}), (partly_scaled, {}),
        (two_stacks, {"num_hidden_layers": 6, "encoder_layers": 6, "decoder_layers": 4}),
        (shared_layer, {"num_hidden_layers": 12}),
        (one_layer_again_and_again, {"num_hidden_layers": 12}), (every_other, {"num_layers": 6}),
        (with_resampler, {"num_hidden_layers": 6}),
    ],
    ids=lambda value: getattr(value, "__name__", "config"),
)  # fmt: skip
def test_healthy_architectures_lack_nothing(
    make: Callable[[], Tensors], config: dict[str, Any]
) -> None:
    own = facts_of(make(), SETTINGS | {"num_hidden_layers": 1} | config)
    assert every(replace(own, baseline=own, base=own)) == []


def test_a_side_with_too_few_layers() -> None:
    config = {"num_hidden_layers": 6, "encoder_layers": 6, "decoder_layers": 5}
    assert places("SPC004", facts_of(two_stacks(), config)) == ["model.decoder.layers.4"]


class TestWhatMayBeMissing:
    def test_a_tied_head(self) -> None:
        tied = llama() | {HEAD: llama()[EMBED]}
        assert places("SPC004", beside(llama(), tied)) == []
        assert places("SPC005", beside(tied, llama())) == []

    def test_a_head_that_the_configuration_ties(self) -> None:
        other = llama() | {HEAD: torch.randn(20, 16)}
        config = SETTINGS | {"tie_word_embeddings": True}
        assert places("SPC004", beside(llama(), other, config=config)) == []
        assert places("SPC004", beside(llama(), other)) == [HEAD]

    def test_buffers(self) -> None:
        buffers = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4),
                   "h.0.attn.masked_bias": torch.ones(())}  # fmt: skip
        assert places("SPC004", beside(llama(), llama() | buffers)) == []
        assert places("SPC005", beside(llama() | buffers, llama())) == []

    def test_what_a_cut_file_lost_or_the_index_names(self) -> None:
        lost = beside(without(llama(), Q, ".layers.5."), llama(), faults=(
            Fault(FIRST, "is cut", tuple(name for name in llama() if ".5." in name or name == Q)),
        ))  # fmt: skip
        assert places("SPC004", lost) == []
        held = dict.fromkeys(without(llama(), Q), FIRST)
        named = beside(without(llama(), Q), llama(), index={**held, Q: FIRST}, held=held)
        assert places("SPC004", named) == []  # SPC003 has told it

    def test_a_weight_that_is_stored_in_a_way_not_read(self) -> None:
        held = dict.fromkeys([*without(llama(), Q), Q.replace("weight", "qweight")], FIRST)
        assert places("SPC004", beside(without(llama(), Q), llama(), held=held)) == []

    def test_an_adapter_is_not_its_base(self) -> None:
        factors = {f"base_model.model.{Q[:-7]}.lora_{half}.weight": torch.randn(4, 4)
                   for half in "AB"}  # fmt: skip
        facts = beside(factors, llama(), "base")
        assert every(facts) == []
        one = dict(list(factors.items())[:1])
        assert len(places("SPC004", beside(one, factors, "baseline"))) == 1


class TestUnexpected:
    @pytest.mark.parametrize("word", ["baseline", "base"])
    def test_a_new_head_is_one_finding_each(self, word: str) -> None:
        head = {"classifier.weight": torch.randn(3, 16), "classifier.bias": torch.zeros(3)}
        facts = beside(llama() | head, llama(), word)
        assert told("SPC005", facts) == [
            (name, f"is here and not in the {word}") for name in sorted(head)
        ]
        assert places("SPC004", facts) == []

    def test_a_prefix_is_no_difference(self) -> None:
        own = facts_of(renamed(llama(), lambda name: f"wrapped.{name}"), SETTINGS)
        base = with_names(facts_of(llama(), SETTINGS), list(own.shapes))
        assert every(replace(own, base=base, baseline=base)) == []

    def test_a_layer_is_told_once(self) -> None:
        facts = beside(llama(8), llama(), config={})
        assert places("SPC005", facts) == ["model.layers.6", "model.layers.7"]

    def test_none(self) -> None:
        assert places("SPC005", beside(llama(), llama())) == []
        assert places("SPC005", facts_of(llama())) == []


class TestShapes:
    @pytest.mark.parametrize(
        ("name", "shape", "text"),
        [
            (EMBED, (22, 16), "rows 20 -> 22 (baseline -> here)"),
            (Q, (16, 17), "columns 16 -> 17 (baseline -> here)"),
            (NORM, (17,), "entries 16 -> 17 (baseline -> here)"),
            (Q, (8, 8), "shape [16, 16] -> [8, 8] (baseline -> here)"),
            (Q, (16, 16, 1), "shape [16, 16] -> [16, 16, 1] (baseline -> here)"),
        ],
        ids=["rows", "columns", "entries", "both", "axes"],
    )
    def test_of_a_reference(self, name: str, shape: tuple[int, ...], text: str) -> None:
        facts = beside(llama() | {name: torch.randn(shape)}, llama())
        assert told("SPC006", facts) == [(name, text)]

    def test_of_a_saved_check(self) -> None:
        saved = replace(facts_of(llama()), shapes={}, held={})
        own = facts_of(llama() | {EMBED: torch.randn(22, 16)}, SETTINGS)
        facts = replace(own, baseline=saved)
        assert told("SPC006", facts) == [(EMBED, "rows 20 -> 22 (baseline -> here)")]
        assert places("SPC004", facts) == places("SPC005", facts) == []

    @pytest.mark.parametrize("nested", [False, True], ids=["plain", "nested"])
    def test_fewer_words_than_the_configuration_says(self, nested: bool) -> None:
        config: dict[str, Any] = SETTINGS | {"vocab_size": 21}
        config = {"text_config": config, "vocab_size": 5} if nested else config
        assert told("SPC006", facts_of(llama(), config)) == [
            (EMBED, "20 rows, and config.json says a vocabulary of 21")
        ]

    def test_the_bias_of_a_router_may_be_that_of_some_of_its_choices(self) -> None:
        gates = {f"model.layers.{i}.mlp.gate.{end}": torch.randn(*shape) for i in range(6)
                 for end, shape in (("weight", (6, 16)), ("bias", (4,)))}  # fmt: skip
        assert places("SPC006", facts_of(llama() | gates, SETTINGS)) == []

    def test_against_its_bias(self) -> None:
        whole = biased()
        assert told("SPC006", facts_of(whole, SETTINGS)) == []
        for cols in (12, 16):  # 16 is what the bias has, on the other side
            cut = {**whole, Q: torch.ones(12, cols)}
            message = f"is 12 x {cols}, and its bias has 16 entries"
            assert told("SPC006", facts_of(cut, SETTINGS)) == [(Q, message)]
        turned = {name: value.mT.contiguous() if value.ndim == 2 and "_proj." in name else value
                  for name, value in whole.items()}  # fmt: skip
        assert told("SPC006", facts_of(turned, SETTINGS)) == []  # stored [in, out] throughout

    @pytest.mark.parametrize("wrong", ["head_dim", "num_key_value_heads"])
    def test_heads_that_cannot_be(self, wrong: str) -> None:
        facts = facts_of(llama(), SETTINGS | {"num_attention_heads": 4, wrong: -2})
        what = "size of a head" if wrong == "head_dim" else "number of heads"
        first = "model.layers.0.self_attn.k_proj.weight"
        assert told("SPC006", facts) == [(first, f"config.json has {wrong} -2, which is no {what}")]

    @pytest.mark.parametrize(
        ("key", "value", "what"),
        [
            ("vocab_size", -4, "number of words"), ("vocab_size", True, "number of words"),
            ("hidden_size", "x", "width"), ("n_embd", 0, "width"),
            ("num_hidden_layers", -2, "number of layers"),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("nested", [False, True], ids=["plain", "nested"])
    def test_what_cannot_count(self, key: str, value: object, what: str, nested: bool) -> None:
        config: dict[str, Any] = SETTINGS | {key: value}
        facts = facts_of(llama(), {"text_config": config} if nested else config)
        message = f"config.json has {key} {quote(value)}, which is no {what}"
        assert told("SPC006", facts) == [(EMBED, message)]

    def test_another_hidden_size(self) -> None:
        assert told("SPC006", facts_of(llama(), SETTINGS | {"hidden_size": 32})) == [
            (EMBED, "16 columns, and config.json says a hidden size of 32")
        ]

    @pytest.mark.parametrize(
        "config",
        [
            SETTINGS,
            SETTINGS | {"vocab_size": 18},
            SETTINGS | {"hidden_size": 32, "embedding_size": 16},
            SETTINGS | {"hidden_size": 32, "word_embed_proj_dim": 16},
            {"text_config": SETTINGS, "hidden_size": 32, "vocab_size": 99},
            {"hidden_size": "16", "vocab_size": None},
            SETTINGS | {"num_kv_heads": [2, 4], "head_dim": None, "num_hidden_layers": [1, 1]},
            {},
        ],
        ids=["alike", "padded", "ALBERT", "OPT", "nested", "odd", "heads by layer", "no config"],
    )
    def test_what_is_none(self, config: dict[str, Any]) -> None:
        assert places("SPC006", facts_of(llama(), config)) == []

    def test_two_tables(self) -> None:
        tables = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
        facts = facts_of({name: torch.randn(20, 16) for name in tables}, {"vocab_size": 30})
        assert places("SPC006", facts) == []


def test_names_that_do_not_print_are_escaped() -> None:
    def texts(found: Iterable[tuple[str | None, str]]) -> str:
        return "".join(text for _, text in found)

    facts = indexed({"a\x1b[2J": FIRST}, {}, faults=(Fault("x\n", "is cut", ("b\r",)),))
    assert texts([*told("SPC002", facts), *told("SPC003", facts)]).isprintable()
