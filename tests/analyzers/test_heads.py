"""`spectra heads` on models whose heads are known, against the plain definition in float64."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

import spectra
from spectra.analyzers.heads_reading import HEAD_KEYS, reading_of
from spectra.analyzers.row import Row
from spectra.errors import NothingToAnalyseError, UsageError
from spectra.matrices.place import Place
from spectra.work import Result

WIDTH, HEADS, KEYS, SIZE = 24, 4, 2, 6
CONFIG = {
    "model_type": "llama", "hidden_size": WIDTH, "num_attention_heads": HEADS,
    "num_key_value_heads": KEYS, "num_hidden_layers": 2,
}  # fmt: skip
Model = Callable[..., tuple[Path, dict[str, Tensor]]]


@pytest.fixture
def model(tmp_path: Path, generator: torch.Generator) -> Model:
    """Write a model of two layers of attention; other settings and tensors on top."""

    def write(more: Mapping[str, Any] = {}, **changed: Tensor) -> tuple[Path, dict[str, Tensor]]:
        tensors: dict[str, Tensor] = {}
        for layer in range(2):
            own = f"model.layers.{layer}."
            for role, rows in (("q", HEADS), ("k", KEYS), ("v", KEYS)):
                tensors[f"{own}self_attn.{role}_proj.weight"] = torch.randn(
                    rows * SIZE, WIDTH, generator=generator
                )
            tensors[f"{own}self_attn.o_proj.weight"] = torch.randn(
                WIDTH, HEADS * SIZE, generator=generator
            )
            tensors[f"{own}input_layernorm.weight"] = 0.5 + torch.rand(WIDTH, generator=generator)
        tensors |= changed
        folder = tmp_path / "model"
        folder.mkdir()
        save_file(tensors, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({**CONFIG, **more}))
        return folder, tensors

    return write


def maps(
    tensors: Mapping[str, Tensor], layer: int, head: int, *, fold: bool = True
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return OV and QK of one head, in full."""
    own = f"model.layers.{layer}."
    q, k, v, o = (tensors[f"{own}self_attn.{role}_proj.weight"].double().numpy() for role in "qkvo")
    gain = tensors[f"{own}input_layernorm.weight"].double().numpy() if fold else 1.0
    mine = slice(head * SIZE, (head + 1) * SIZE)
    shared = slice(head // 2 * SIZE, (head // 2 + 1) * SIZE)
    return o[:, mine] @ (v[shared] * gain), (q[mine] * gain).T @ (k[shared] * gain)


def named(result: Result) -> dict[str, Mapping[str, Any]]:
    return {row.matrix: row.values for row in result.rows}


@pytest.mark.parametrize("fold", [True, False], ids=["folded", "as_they_are"])
def test_every_number_is_that_of_the_plain_definition(model: Model, fold: bool) -> None:
    folder, tensors = model()
    found = named(spectra.heads(folder, fold=fold))
    assert len(found) == 2 * HEADS
    for layer in range(2):
        whole = [maps(tensors, layer, head, fold=fold) for head in range(HEADS)]
        for head in range(HEADS):
            row = found[f"model.layers.{layer}.self_attn[head={head}]"]
            for name, matrix in zip(("ov", "qk"), whole[head], strict=True):
                sigma = np.linalg.svd(matrix, compute_uv=False)[:SIZE]
                share = sigma / sigma.sum()
                assert row[f"{name}_sigma_max"] == pytest.approx(sigma[0], rel=1e-6)
                assert row[f"{name}_frobenius"] == pytest.approx(np.linalg.norm(sigma), rel=1e-6)
                assert row[f"{name}_stable_rank"] == pytest.approx(
                    (sigma**2).sum() / sigma[0] ** 2, rel=1e-6
                )
                assert row[f"{name}_effective_rank"] == pytest.approx(
                    np.exp(-(share * np.log(share)).sum()), rel=1e-6
                )
                assert row[f"{name}_profile"] == pytest.approx(sigma, rel=1e-5)
            values = np.linalg.eigvals(whole[head][0])
            score = values.real.sum() / np.abs(values).sum()
            assert row["copying"] == pytest.approx(score, abs=1e-5)
            cosines = [
                0.0 if other == head else (whole[head][0] * whole[other][0]).sum()
                / np.linalg.norm(whole[head][0]) / np.linalg.norm(whole[other][0])
                for other in range(HEADS)
            ]  # fmt: skip
            assert row["nearest"] == int(np.argmax(np.abs(cosines)))
            assert row["nearest_cosine"] == pytest.approx(cosines[row["nearest"]], abs=1e-5)
            assert (row["head"], row["kv_head"]) == (head, head // 2)
            assert row["folded"] == ("rms" if fold else "no")
            assert (row["logit_bound"] is None) is not fold


def test_no_logit_exceeds_its_bound_at_any_distance(
    model: Model, generator: torch.Generator
) -> None:
    biases = {
        f"model.layers.0.self_attn.{role}_proj.bias": torch.randn(rows * SIZE, generator=generator)
        for role, rows in (("q", HEADS), ("k", KEYS))
    }
    folder, tensors = model({"model_type": "qwen2"}, **biases)
    found = named(spectra.heads(folder))
    own = "model.layers.0."
    gain = tensors[f"{own}input_layernorm.weight"]
    q, k = (tensors[f"{own}self_attn.{role}_proj.weight"] * gain for role in "qk")
    for head in range(HEADS):
        mine, shared = (slice(one * SIZE, (one + 1) * SIZE) for one in (head, head // 2))
        query, key = q[mine].double(), k[shared].double()
        start = torch.linalg.svd(query)[2][0] * WIDTH**0.5, torch.linalg.svd(key)[2][0] * WIDTH**0.5
        reached = 0.0
        for sign in (1.0, -1.0):
            x = query @ (sign * start[0]) + biases[f"{own}self_attn.q_proj.bias"][mine]
            y = key @ start[1] + biases[f"{own}self_attn.k_proj.bias"][shared]
            for angle in torch.linspace(0, 6.28, 40):  # of all planes, which is one distance
                half = SIZE // 2
                turned = torch.cat([
                    x[:half] * angle.cos() - x[half:] * angle.sin(),
                    x[half:] * angle.cos() + x[:half] * angle.sin(),
                ])  # fmt: skip
                reached = max(reached, abs(float(turned @ y)) * SIZE**-0.5)
        bound = found[f"{own}self_attn[head={head}]"]["logit_bound"]
        assert reached <= bound
        assert reached > 0.2 * bound


def test_dead_heads_and_twins_are_told(model: Model) -> None:
    folder, tensors = model()
    output = tensors["model.layers.1.self_attn.o_proj.weight"].clone()
    output[:, :SIZE] = 0.0  # head 0 writes nothing
    output[:, 3 * SIZE :] = -2.0 * output[:, 2 * SIZE : 3 * SIZE]  # of one head of values
    save_file(
        {**tensors, "model.layers.1.self_attn.o_proj.weight": output}, folder / "model.safetensors"
    )
    result = spectra.heads(folder)
    found = {name: row for name, row in named(result).items() if "layers.1." in name}
    own = "model.layers.1.self_attn[head={}]"
    assert [found[own.format(head)]["dead"] for head in range(HEADS)] == ["ov", None, None, None]
    assert [found[own.format(head)]["twin"] for head in range(HEADS)] == [None, None, 3, 2]
    assert found[own.format(3)]["nearest_cosine"] == pytest.approx(-1.0, abs=1e-6)
    assert found[own.format(0)]["copying"] is None
    assert (result.summary["dead"], result.summary["twins"]) == (1, 2)
    reading = str(result.summary["reading"])
    assert "1 of 8 dead: layer 1 head 0 (OV)" in reading
    assert "1 pair of heads moves the opposite by OV: layer 1 head 2 and 3 (-1)" in reading
    assert "the same" not in reading


def test_of_heads_that_are_alike_every_pair_is_counted(model: Model) -> None:
    folder, tensors = model()
    values = tensors["model.layers.1.self_attn.v_proj.weight"].clone()
    values[SIZE:] = values[:SIZE]
    output = tensors["model.layers.1.self_attn.o_proj.weight"].clone()
    first = output[:, :SIZE].clone()
    for head, factor in ((1, 1.0), (3, -2.0)):
        output[:, head * SIZE : (head + 1) * SIZE] = factor * first
    save_file({
        **tensors, "model.layers.1.self_attn.v_proj.weight": values,
        "model.layers.1.self_attn.o_proj.weight": output,
    }, folder / "model.safetensors")  # fmt: skip
    result = spectra.heads(folder)
    assert result.summary["twins"] == 3
    reading = str(result.summary["reading"])
    assert "1 pair of heads moves the same by OV: layer 1 head 0 and 1 (1)." in reading
    told = "2 pairs of heads move the opposite by OV: layer 1 head 0 and 3 (-1), layer 1 head 1 and"
    assert told in reading
    assert "alike" not in result.rows[0].values


@pytest.mark.parametrize(
    ("kind", "power", "norm"),
    [(torch.float32, -100, 0), (torch.float32, 63, 60), (torch.float32, -140, 0),
     (torch.float32, 100, -120), (torch.bfloat16, 100, 0), (torch.bfloat16, -100, -30),
     (torch.float64, 490, 0), (torch.float64, -490, 0)],
    ids=str,
)  # fmt: skip
def test_numbers_hold_at_every_scale_of_the_weights(
    model: Model, tmp_path: Path, kind: torch.dtype, power: int, norm: int
) -> None:
    folder, tensors = model()
    powers = {name: norm if one.ndim == 1 else power for name, one in tensors.items()}
    stored = {name: (one.double() * 2.0 ** powers[name]).to(kind) for name, one in tensors.items()}
    tensors = {name: one.double() / 2.0 ** powers[name] for name, one in stored.items()}
    save_file(tensors, folder / "model.safetensors")
    scaled = tmp_path / "scaled"
    scaled.mkdir()
    (scaled / "config.json").write_text(json.dumps(CONFIG))
    save_file(stored, scaled / "model.safetensors")
    by = {"ov": 2.0 ** (2 * power + norm), "qk": 2.0 ** (2 * power + 2 * norm)}
    found = named(spectra.heads(scaled))
    for name, one in named(spectra.heads(folder)).items():
        layer, head = int("layers.1." in name), int(name[-2])
        sigma = np.linalg.svd(maps(tensors, layer, head)[0], compute_uv=False)[0]
        assert found[name]["ov_sigma_max"] == pytest.approx(sigma * by["ov"], rel=1e-6)
        for key in ("ov_frobenius", "qk_sigma_max", "qk_frobenius", "qk_unturned", "logit_bound"):
            size = one[key] * by["ov" if key.startswith("ov") else "qk"]
            assert found[name][key] == pytest.approx(size, rel=1e-6, abs=0.0)
        for key in ("copying", "nearest", "nearest_cosine", "ov_effective_rank", "qk_stable_rank",
                    "dead", "twin"):  # fmt: skip
            expected = None if one[key] is None else pytest.approx(one[key], rel=1e-6)
            assert found[name][key] == expected


def test_maps_beyond_float64_are_no_numbers(model: Model) -> None:
    folder, tensors = model()
    large = {name: one.double() * (1.0 if one.ndim == 1 or "layers.0." in name else 2.0**600)
             for name, one in tensors.items()}  # fmt: skip
    save_file(large, folder / "model.safetensors")
    told = {(row.place.layer, row.status, row.error) for row in spectra.heads(folder).rows}
    assert told == {(0, "ok", None), (1, "non-finite", "QK and OV are beyond float64")}


def test_values_that_coincide_are_told(model: Model) -> None:
    eye = torch.eye(WIDTH)
    folder, _ = model(
        **{
            "model.layers.0.self_attn.v_proj.weight": eye[: KEYS * SIZE].clone(),
            "model.layers.0.self_attn.o_proj.weight": eye.clone(),
            "model.layers.0.input_layernorm.weight": torch.ones(WIDTH),
        }
    )
    result = spectra.heads(folder)
    assert named(result)["model.layers.0.self_attn[head=0]"]["ov_tied"] == SIZE
    assert result.summary["tied"] == HEADS


def test_a_family_that_is_not_known_is_told_unfolded_with_a_note(model: Model) -> None:
    folder, tensors = model({"model_type": "brand-new"})
    result = spectra.heads(folder)
    row = named(result)["model.layers.0.self_attn[head=1]"]
    sigma = np.linalg.svd(maps(tensors, 0, 1, fold=False)[0], compute_uv=False)
    assert row["ov_sigma_max"] == pytest.approx(sigma[0], rel=1e-6)
    assert row["folded"] == "unknown"
    assert row["logit_bound"] is row["qk_unturned"] is row["turning"] is None
    (note,) = result.summary["notes"]
    assert "model_type brand-new" in str(note)


def test_a_setting_that_makes_a_known_family_another_is_named(model: Model) -> None:
    folder, _ = model({"model_type": "cohere", "use_qk_norm": True})
    (note,) = spectra.heads(folder).summary["notes"]
    assert "model_type cohere with use_qk_norm true: which norms" in str(note)


@pytest.mark.parametrize(("settings", "told"), [
    ({"rope_scaling": {"rope_type": "spiral"}}, "rope_type spiral"),
    ({"rope_scaling": {"rope_type": "yarn", "factor": "x"}}, "rope_type yarn without a factor"),
    ({"rotary_dim": 3}, f"rotary_dim 3 for {SIZE} lines"),
    ({"partial_rotary_factor": 2.0}, "partial_rotary_factor 2.0"),
    ({"model_type": "granite", "attention_multiplier": "x"}, "attention_multiplier x"),
    ({"model_type": "granite", "attention_multiplier": 0.0}, "attention_multiplier 0.0"),
], ids=str)  # fmt: skip
def test_a_setting_that_hides_the_logits_is_named(
    model: Model, settings: Mapping[str, Any], told: str
) -> None:
    folder, _ = model(settings)
    result = spectra.heads(folder)
    assert {row.values["logit_bound"] for row in result.rows} == {None}
    assert {row.values["folded"] for row in result.rows} == {"rms"}
    assert all(row.values["qk_unturned"] for row in result.rows)
    (note,) = result.summary["notes"]
    assert f"2 modules of attention: what config.json's {told} does to queries" in str(note)


def test_a_model_type_that_is_no_word_is_that_of_no_family(model: Model) -> None:
    folder, _ = model({"model_type": ["llama"]})
    (note,) = spectra.heads(folder).summary["notes"]
    assert "model_type ['llama']: which norms" in str(note)


@pytest.mark.parametrize("beside", ["forget_gate.A_log", "lambda_q1", "k_conv.conv1d.weight"])
def test_what_attends_otherwise_has_no_heads(model: Model, beside: str) -> None:
    folder, _ = model(**{f"model.layers.1.self_attn.{beside}": torch.ones(4)})
    result = spectra.heads(folder)
    assert {row.place.layer for row in result.rows} == {0}
    (note,) = result.summary["notes"]
    assert f"softmax attention alone: model.layers.1.self_attn.{beside} is beside" in str(note)


@pytest.mark.parametrize(("gain", "note"), [
    (None, "the norm input_layernorm of model.layers.0.self_attn is not there."),
    (torch.ones(5), f"a norm of {WIDTH} numbers in place of model.layers.0.input_layernorm.weight"),
])  # fmt: skip
def test_a_norm_that_a_known_family_has_and_this_model_has_not_is_named(
    model: Model, gain: Tensor | None, note: str
) -> None:
    folder, tensors = model()
    own = "model.layers.0.input_layernorm.weight"
    tensors = {name: one for name, one in tensors.items() if name != own}
    save_file(tensors | ({} if gain is None else {own: gain}), folder / "model.safetensors")
    result = spectra.heads(folder)
    assert [row.values["folded"] for row in result.rows] == ["unknown"] * HEADS + ["rms"] * HEADS
    (told,) = result.summary["notes"]
    assert str(told).startswith(f"1 module of attention: {note}")


def test_what_a_module_holds_in_place_of_its_matrices_is_named(model: Model) -> None:
    folder, tensors = model()
    whole = {name: one for name, one in tensors.items() if "o_proj" in name}
    whole |= {f"model.layers.{at}.self_attn.Wqkv.weight": torch.ones(60, WIDTH) for at in range(2)}
    save_file(whole, folder / "model.safetensors")
    told = r"no attn\.q, attn\.k, attn\.v in this module; how \S+Wqkv\.weight, 60 x 24, is laid out"
    with pytest.raises(NothingToAnalyseError, match=told):
        spectra.heads(folder)


def test_heads_that_are_not_known_are_refused_with_what_is_not(model: Model) -> None:
    folder, _ = model()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(NothingToAnalyseError, match=r"config\.json does not tell how many heads"):
        spectra.heads(folder)


def test_some_of_the_matrices_are_no_module(model: Model) -> None:
    folder, _ = model(**{"model.layers.0.mlp.up_proj.weight": torch.ones(8, WIDTH)})
    whole = (
        r"the selection leaves no whole module of attention of \S+: model\.layers\.0\.self_attn: "
    )
    with pytest.raises(
        NothingToAnalyseError, match=rf"{whole}the selection leaves \S+q_proj\.weight of its 4"
    ):
        spectra.heads(folder, role="attn.q")
    with pytest.raises(NothingToAnalyseError, match="the selection leaves none of its 4 matrices"):
        spectra.heads(folder, include="*mlp*")
    some = spectra.heads(folder, exclude="*1.self_attn.q_proj*")
    assert len(some.rows) == HEADS
    (note,) = some.summary["notes"]
    assert "layers.1.self_attn: the selection leaves model.layers.1.self_attn.k_proj" in str(note)
    assert len(spectra.heads(folder, layers=[1]).rows) == HEADS


def test_an_adapter_is_refused(minilm_lora: Path) -> None:
    with pytest.raises(UsageError, match="is a LoRA adapter, not a model"):
        spectra.heads(minilm_lora)


OWN = "model.layers.0.self_attn."


@pytest.mark.parametrize(("tensor", "place", "lost", "what"), [
    ("q_proj.weight", (SIZE + 2, 3), {1}, "its queries hold"),
    ("k_proj.weight", (SIZE, 0), {2, 3}, "its keys hold"),  # those that share a head of keys
    ("v_proj.weight", (0, 0), {0, 1}, "its values hold"),
    ("o_proj.weight", (5, 3 * SIZE), {3}, "what it writes holds"),
])  # fmt: skip
def test_nan_costs_the_heads_that_hold_it(
    model: Model, tmp_path: Path, tensor: str, place: tuple[int, int], lost: set[int], what: str
) -> None:
    folder, tensors = model()
    whole = named(spectra.heads(folder, compose=True, strongest=200))
    tensors[OWN + tensor][place] = torch.nan
    save_file(tensors, folder / "model.safetensors")
    result = spectra.heads(folder, compose=True, strongest=200)
    assert {row.values["head"] for row in result.rows if row.status == "non-finite"} == lost
    assert {row.error for row in result.rows if row.error} == {f"{what} NaN or Inf"}
    assert result.summary["non_finite"] == len(lost)
    left = HEADS - len(lost)
    assert str(result.summary["reading"]).startswith(
        f"{2 * HEADS} heads of attention in 2 modules, {len(lost)} of them without numbers, and "
        f"none of the other {HEADS + left} dead."
    )
    for name, values in named(result).items():
        if "layers.0" not in name or values["head"] not in lost:
            same = {key for key in values if "nearest" not in key and key != "twin"}
            assert {key: values[key] for key in same} == {key: whole[name][key] for key in same}
    told: Any = result.summary["composition"]
    assert told["pairs"] == len(told["strongest"]) == 3 * left * HEADS
    assert not {pair["writer_head"] for pair in told["strongest"]} & lost
    assert all(pair["score"] for pair in told["strongest"])


def test_a_norm_that_is_no_number_is_named(model: Model) -> None:
    gain = torch.full((WIDTH,), torch.nan)
    folder, _ = model(**{"model.layers.0.input_layernorm.weight": gain})
    result = spectra.heads(folder)
    assert [row.status for row in result.rows] == ["non-finite"] * HEADS + ["ok"] * HEADS
    told = "its queries, its keys and its values hold NaN or Inf, as "
    assert result.rows[0].error == f"{told}model.layers.0.input_layernorm.weight does"
    reading = str(result.summary["reading"])
    assert "8 heads of attention in 2 modules, 4 of them without numbers, and none of" in reading
    assert "No logit of 4 heads can exceed" in reading  # and nothing of the others'


def test_the_norm_of_another_head_takes_no_bound_away(model: Model) -> None:
    gains = {f"{OWN}{role}_norm.weight": torch.ones(heads * SIZE)
             for role, heads in (("q", HEADS), ("k", KEYS))}  # fmt: skip
    gains[f"{OWN}q_norm.weight"][0] = torch.inf
    more = {f"model.layers.{layer}.{name}.weight": torch.ones(WIDTH) for layer in range(2)
            for name in ("post_attention_layernorm", "post_feedforward_layernorm")}  # fmt: skip
    folder, _ = model({"model_type": "olmo2"}, **gains, **more)
    rows = spectra.heads(folder, layers="0").rows
    assert [row.status for row in rows] == ["non-finite"] + ["ok"] * (HEADS - 1)
    bound = (HEADS * KEYS * SIZE) ** 0.5
    assert [row.values["logit_bound"] for row in rows[1:]] == [pytest.approx(bound)] * (HEADS - 1)
    assert {row.values["folded"] for row in rows[1:]} == {"rms of all heads, rms behind"}


def test_a_bound_is_of_all_that_is_told_or_says_of_what(model: Model) -> None:
    eye = torch.eye(WIDTH)[: HEADS * SIZE]
    normed: dict[str, Tensor] = {
        f"model.layers.{layer}.self_attn.{role}_norm.weight": torch.ones(SIZE)
        for layer in range(2) for role in "qk"
    }  # fmt: skip
    away = {"model.layers.0.self_attn.o_proj.weight": -eye.mT.contiguous().clone(),
            "model.layers.1.self_attn.o_proj.weight": -eye.mT.contiguous().clone()}  # fmt: skip
    values = {f"model.layers.{layer}.self_attn.v_proj.weight": eye[: KEYS * SIZE].clone()
              for layer in range(2)}  # fmt: skip
    folder, _ = model({"model_type": "qwen3", "head_dim": SIZE}, **normed, **away, **values)
    reading = str(spectra.heads(folder).summary["reading"])
    assert "in size, the bound of each." in reading
    assert "take away what they read" in reading or "takes away what it reads" in reading


@pytest.mark.parametrize("across", [1.0, 1e-3])
def test_positions_that_are_added_are_told_whoever_has_the_highest_bound(across: float) -> None:
    def row(name: str, bound: float, added: bool) -> Row:
        place = Place(name, name, "attn", 0, None, 8, 8, "F32")
        values = dict.fromkeys(HEAD_KEYS) | {
            "head": 0, "logit_bound": bound, "logit_added": added, "folded": "rms",
        }  # fmt: skip
        return Row(place, "ok", None, values)

    rows = [row("decoder.block.0.layer.0.SelfAttention", 0.5, added=True),
            row("decoder.block.0.layer.1.EncDecAttention", across, added=False)]  # fmt: skip
    assert "No logit, before positions are added, can exceed" in str(reading_of(rows)["reading"])


def test_where_nothing_is_written_no_head_is_nearest(model: Model) -> None:
    none = {f"model.layers.{layer}.self_attn.o_proj.weight": torch.zeros(WIDTH, HEADS * SIZE)
            for layer in range(2)}  # fmt: skip
    folder, _ = model(**none)
    assert {row.values["nearest"] for row in spectra.heads(folder).rows} == {None}


def test_a_second_run_measures_nothing(minilm: Path) -> None:
    first = spectra.heads(minilm)
    planned = spectra.heads.plan(minilm)
    assert planned.estimate().known == 6
    assert named(planned.run()) == named(first)
    assert spectra.heads.plan(minilm, fold=False).estimate().known == 0


def test_settings_that_make_other_numbers_are_measured_anew(model: Model) -> None:
    folder, _ = model()
    before = named(spectra.heads(folder))
    (folder / "config.json").write_text(json.dumps({**CONFIG, "num_key_value_heads": 1}))
    with pytest.raises(NothingToAnalyseError):
        spectra.heads(folder)
    (folder / "config.json").write_text(json.dumps({**CONFIG, "model_type": "gemma"}))
    after = named(spectra.heads(folder))
    name = "model.layers.0.self_attn[head=0]"
    assert after[name]["ov_sigma_max"] > before[name]["ov_sigma_max"]  # its gains are 1 + w
