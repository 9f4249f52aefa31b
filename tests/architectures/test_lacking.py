"""Every single tensor of a model can be missing, and nothing of a healthy one is."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

import families
from spectra.architectures.lacking import Lack, lacking
from spectra.architectures.parameters import class_of, forms_of

Config = dict[str, Any]


def saved(model: Any, folder: Path) -> tuple[Config, list[str]]:  # noqa: ANN401 - any model
    """The settings and the names that a model is saved with."""
    model.save_pretrained(folder)
    with safe_open(folder / "model.safetensors", "pt") as file:
        names = list(file.keys())
    return json.loads((folder / "config.json").read_text()), names


def judged(config: Config, names: list[str], known: list[str] | None = None) -> Lack | None:
    name = class_of(config)
    assert name is not None
    return lacking(config, names, names if known is None else known, name)


def found(config: Config, names: list[str]) -> Lack:
    lack = judged(config, names)
    assert lack is not None
    return lack


FAMILIES = ("bert", "llama", "qwen2", "gpt2", "t5", "mixtral", "qwen3_moe", "vit")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_tensor_that_is_taken_out_is_named(family: str, tmp_path: Path) -> None:
    config, names = saved(families.build(family), tmp_path)
    assert found(config, names) == Lack(config["architectures"][0])
    for gone in names:
        rest = [name for name in names if name != gone]
        assert found(config, rest).missing == (gone,)


@pytest.fixture
def bert(tmp_path: Path) -> tuple[Config, list[str]]:
    import transformers  # noqa: PLC0415 - slow to load

    small: Any = families.config_of("bert")
    return saved(transformers.BertModel(small), tmp_path)


@pytest.fixture
def llama(tmp_path: Path) -> tuple[Config, list[str]]:
    return saved(families.build("llama"), tmp_path)


def test_names_may_have_or_lack_the_prefix_of_the_body(
    bert: tuple[Config, list[str]], llama: tuple[Config, list[str]]
) -> None:
    config, names = bert
    for prefix in ("bert.", "module.bert."):
        assert found(config, [prefix + name for name in names]).missing == ()
        rest = [prefix + name for name in names if name != "pooler.dense.weight"]
        assert found(config, rest).missing == (f"{prefix}pooler.dense.weight",)
    config, names = llama
    bare = [name.removeprefix("model.") for name in names]
    assert found(config, bare).missing == ()
    assert found(config, bare[1:]).head == (bare[0],)


def test_names_of_older_files_are_those_of_today(bert: tuple[Config, list[str]]) -> None:
    config, names = bert
    old = [
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        )
        for name in names
    ]
    assert found(config, old) == Lack("BertModel")
    rest = [name for name in old if name != "embeddings.LayerNorm.gamma"]
    assert found(config, rest).missing == ("embeddings.LayerNorm.weight",)


def test_a_head_may_be_left_out_unless_it_is_said_to_be_its_own(
    llama: tuple[Config, list[str]],
) -> None:
    config, names = llama
    rest = [name for name in names if name != "lm_head.weight"]
    assert found(config | {"tie_word_embeddings": False}, rest).missing == ("lm_head.weight",)
    unsaid = {key: value for key, value in config.items() if key != "tie_word_embeddings"}
    for settings in (unsaid, config | {"tie_word_embeddings": True}):
        assert found(settings, rest).missing == ()
        # Nor need the embeddings be there under their own name, but one of the two.
        other = [name for name in names if name != "model.embed_tokens.weight"]
        assert found(settings, other).missing == ()
        neither = [name for name in rest if name in other]
        assert found(settings, neither).missing == ("model.embed_tokens.weight",)


def test_biases_are_missing_where_the_settings_say_so(llama: tuple[Config, list[str]]) -> None:
    config, names = llama
    with_biases = config | {"attention_bias": True}
    assert len(found(with_biases, names).missing) == 4 * config["num_hidden_layers"]
    unsaid = {key: value for key, value in config.items() if key != "attention_bias"}
    assert found(unsaid, names).missing == ()


def test_layers_are_counted_by_config_json(llama: tuple[Config, list[str]]) -> None:
    config, names = llama
    layer = [name for name in names if ".layers.1." in name]
    rest = [name for name in names if name not in layer]
    assert set(found(config, rest).missing) == set(layer)
    more = found(config | {"num_hidden_layers": 4}, names)
    assert len(more.missing) == 2 * len(layer)
    fewer = found(config | {"num_hidden_layers": 1}, names)
    assert (fewer.missing, fewer.beyond) == ((), {"model.layers.": 1})
    predicting = config | {"num_hidden_layers": 1, "num_nextn_predict_layers": 1}
    assert found(predicting, names).beyond == {}
    unsaid = {key: value for key, value in config.items() if key != "num_hidden_layers"}
    assert found(unsaid, names).missing == ()


def test_parts_of_quantised_weights_stand_for_them(llama: tuple[Config, list[str]]) -> None:
    config, names = llama
    for end in ("qweight", "weight_packed", "W_q"):
        packed = [
            name.replace("q_proj.weight", f"q_proj.{end}") if "q_proj" in name else name
            for name in names
        ]
        assert found(config, packed).missing == ()
    # Scales alone are no weight.
    gone = "model.layers.0.self_attn.q_proj.weight"
    scales = [name for name in names if name != gone] + [f"{gone}_scale"]
    assert found(config, scales).missing == (gone,)
    # What was lost or skipped is there, only not judged.
    lack = judged(config, [name for name in names if name != gone], names)
    assert lack is not None
    assert lack.missing == ()


def test_other_names_in_their_place_are_a_doubt(llama: tuple[Config, list[str]]) -> None:
    config, names = llama
    other = [name.replace("mlp.up_proj", "mlp.w3") for name in names]
    lack = found(config, other)
    assert lack.missing == ()
    assert lack.renamed == tuple(
        f"model.layers.{n}.mlp.up_proj.weight" for n in range(config["num_hidden_layers"])
    )
    table = [name.replace("embed_tokens", "tok_embed") for name in names]
    assert found(config, table).renamed == ("model.embed_tokens.weight",)
    # A tensor that has nothing to do with it excuses nothing.
    score = [name.replace("model.embed_tokens", "score") for name in names]
    assert found(config, score).missing == ("model.embed_tokens.weight",)


def test_another_model_than_its_class_is_not_compared(llama: tuple[Config, list[str]]) -> None:
    config, names = llama
    foreign = [f"net.{i}.weight" for i in range(len(names))]
    assert judged(config, foreign) is None
    assert judged(config, []) is None
    some = names[: len(names) // 2] + foreign[: len(names) // 3]
    assert judged(config, some) is not None
    assert judged(config | {"auto_map": {}}, some) is None


def test_modules_of_a_pipeline_are_left_out(bert: tuple[Config, list[str]]) -> None:
    config, names = bert
    assert found(config, [*names, "2_Dense/linear.weight"]) == Lack("BertModel")
    rest = [name for name in names if name != "pooler.dense.weight"]
    assert found(config, [*rest, "2_Dense/linear.weight"]).missing == ("pooler.dense.weight",)


def test_a_row_of_modules_has_no_gap(tmp_path: Path) -> None:
    config, names = saved(families.build("wav2vec2"), tmp_path)
    for gone in ("1", "3"):
        part = f"conv_layers.{gone}."
        rest = [name for name in names if part not in name]
        assert found(config, rest).missing
    assert found(config, names).missing == ()


def test_experts_are_counted_under_either_name_of_the_setting(tmp_path: Path) -> None:
    config, names = saved(families.build("qwen3_moe"), tmp_path)
    count = config.pop("num_local_experts")
    rest = [name for name in names if f"experts.{count - 1}." not in name]
    assert (
        len(found(config | {"num_experts": count}, rest).missing) == 3 * config["num_hidden_layers"]
    )
    assert found(config | {"num_experts": count - 1}, rest).missing == ()
    assert found(config | {"num_experts": count, "mlp_only_layers": [0]}, rest).missing == ()


def test_a_body_saved_alone_lacks_its_head_and_nothing_else(tmp_path: Path) -> None:
    import transformers  # noqa: PLC0415 - slow to load

    small: Any = transformers.MPNetConfig(**SMALL)
    config, names = saved(transformers.MPNetModel(small), tmp_path)
    config["architectures"] = ["MPNetForMaskedLM"]
    lack = found(config, names)
    assert lack.missing == lack.renamed == ()
    assert set(lack.head) == {
        f"lm_head.{end}" for end in ("bias", "dense.bias", "dense.weight", "layer_norm.bias",
                                     "layer_norm.weight")
    }  # fmt: skip
    gone = "encoder.layer.1.output.dense.weight"
    assert found(config, [name for name in names if name != gone]).missing == (gone,)
    kept = [f"mpnet.{name}" for name in names]
    assert found(config, kept).head == ()
    assert set(found(config, kept).missing) == set(lack.head)


def test_what_a_body_may_have_takes_the_place_of_nothing(tmp_path: Path) -> None:
    """The published BERT has a pooler that its class has not."""
    config, names = saved(families.build("bert"), tmp_path)
    pooler = ["bert.pooler.dense.weight", "bert.pooler.dense.bias"]
    gone = "cls.predictions.transform.dense.weight"
    rest = [*(name for name in names if name != gone), *pooler]
    assert found(config, rest).missing == (gone,)
    assert found(config, [*names, *pooler]) == Lack(config["architectures"][0])


def test_what_masks_inputs_in_training_alone_is_told_apart(tmp_path: Path) -> None:
    import transformers  # noqa: PLC0415 - slow to load

    small: Any = transformers.Wav2Vec2Config(
        **SMALL, conv_dim=(8, 8), conv_stride=(5, 2), conv_kernel=(10, 3),
        num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    config, names = saved(transformers.Wav2Vec2ForCTC(small), tmp_path)
    mask = "wav2vec2.masked_spec_embed"
    assert found(config, [name for name in names if name != mask]) == Lack(
        "Wav2Vec2ForCTC", unused=(mask,)
    )


def test_sines_that_a_class_fills_itself_may_be_left_out() -> None:
    config = {"architectures": ["FSMTModel"], "encoder_layers": 1, "decoder_layers": 1}
    every = [re.sub(r"{[^}]*}", "0", one[0]) for one, _ in forms_of("FSMTModel")[0].templates]
    rest = [name for name in every if "embed_positions" not in name]
    assert len(rest) == len(every) - 2
    assert found(config, rest) == found(config, every) == Lack("FSMTModel")


def test_all_layers_of_one_side_are_missing(tmp_path: Path) -> None:
    config, names = saved(families.build("t5"), tmp_path)
    missing = found(config, [name for name in names if not name.startswith("decoder.")]).missing
    maps = {name for name in names if name.startswith("decoder.") and "Attention" in name}
    assert maps
    assert maps <= set(missing)


SMALL: dict[str, Any] = {
    "vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 24,
}  # fmt: skip
