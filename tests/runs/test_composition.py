"""`spectra heads --compose` against the plain definition in numpy's float64."""

import functools
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

import families
import spectra
from examples import write_model
from spectra.analyzers.head_lines import HeadLines
from spectra.errors import UsageError
from spectra.matrices import Matrix
from spectra.matrices.attention import Attention
from spectra.runs import composition, pairs
from spectra.runs.pairs import modules_of, pairs_of
from spectra.work import memory, probe, store
from spectra.work.executor import Progress, measured
from spectra.work.local import Local
from spectra.work.threads import threads_within

LAYERS, HEADS, KEYS, SIZE, WIDTH = 3, 4, 2, 20, 64
Map = NDArray[np.float64]


@pytest.fixture
def model(tmp_path: Path, generator: torch.Generator) -> Path:
    """Three layers of grouped heads; layer 2's head 3 asks for what layer 0's head 1 writes."""
    tensors: dict[str, Tensor] = {}
    for layer in range(LAYERS):
        own = f"model.layers.{layer}"
        tensors[f"{own}.input_layernorm.weight"] = 0.5 + torch.rand(WIDTH, generator=generator)
        for name, rows, cols in (
            ("q", HEADS * SIZE, WIDTH), ("k", KEYS * SIZE, WIDTH), ("v", KEYS * SIZE, WIDTH),
            ("o", WIDTH, HEADS * SIZE),
        ):  # fmt: skip
            made = torch.randn(rows, cols, generator=generator)
            tensors[f"{own}.self_attn.{name}_proj.weight"] = made
    written = tensors["model.layers.0.self_attn.o_proj.weight"][:, SIZE : 2 * SIZE]
    asks = tensors["model.layers.2.self_attn.q_proj.weight"]
    asks[3 * SIZE :] = 3.0 * written.mT / tensors["model.layers.2.input_layernorm.weight"]
    config = {"model_type": "llama", "num_attention_heads": HEADS, "num_key_value_heads": KEYS}
    return write_model(tmp_path / "model", tensors, json.dumps(config))


def plain(folder: Path) -> dict[tuple[str, int, int, int, int], tuple[float, Map]]:
    """Return every score by its definition, and those of the writer's components."""
    tensors = load_file(folder / "model.safetensors")
    maps: dict[tuple[int, int], dict[str, Map]] = {}
    for layer, head in itertools.product(range(LAYERS), range(HEADS)):
        own = f"model.layers.{layer}"
        q, k, v, o = (
            tensors[f"{own}.self_attn.{name}_proj.weight"].double().numpy() for name in "qkvo"
        )
        gain = tensors[f"{own}.input_layernorm.weight"].double().numpy()
        mine = slice(head * SIZE, (head + 1) * SIZE)
        shared = slice(head // 2 * SIZE, (head // 2 + 1) * SIZE)
        moves = (v[shared] * gain).T @ o[:, mine].T  # W_V W_O: a row in, a row out
        looks = (q[mine] * gain).T @ (k[shared] * gain)
        maps[layer, head] = {"ov": moves, "q": looks, "k": looks.T, "v": moves}
    found = {}
    for (one, writer), (other, reader) in itertools.product(maps, maps):
        if one >= other:
            continue
        moves = maps[one, writer]["ov"]
        right = np.linalg.svd(moves)[2]
        for kind in "qkv":
            reads = maps[other, reader][kind]
            size = np.linalg.norm(reads)
            score = np.linalg.norm(moves @ reads) / np.linalg.norm(moves) / size
            parts = np.linalg.norm(right[:SIZE] @ reads, axis=1) / size
            found[kind, one, writer, other, reader] = (float(score), parts)
    return found


def told(result: Any) -> dict[tuple[str, int, int, int, int], Mapping[str, Any]]:  # noqa: ANN401
    return {
        (one["kind"], one["writer_layer"], one["writer_head"], one["reader_layer"],
         one["reader_head"]): one
        for one in result.summary["composition"]["strongest"]
    }  # fmt: skip


def test_every_score_is_that_of_the_plain_definition(model: Path) -> None:
    expected = plain(model)
    result = spectra.heads(model, compose=True, strongest=10_000)
    found = told(result)
    assert found.keys() == expected.keys()
    assert result.summary["composition"]["pairs"] == len(expected)
    for key, (score, parts) in expected.items():
        assert found[key]["score"] == pytest.approx(score, rel=1e-5)
        assert found[key]["null"] == WIDTH**-0.5
        for one in found[key]["components"]:
            assert one["score"] == pytest.approx(parts[one["index"]], rel=1e-3)
    first = result.summary["composition"]["strongest"][0]
    assert (first["kind"], first["writer_layer"], first["writer_head"]) == ("q", 0, 1)
    assert (first["reader_layer"], first["reader_head"]) == (2, 3)
    layers = {(one["kind"], one["writer_layer"], one["reader_layer"]): one
              for one in result.summary["composition"]["layers"]}  # fmt: skip
    highest = max(score for key, (score, _) in expected.items() if (key[0], key[1], key[3])
                  == ("q", 0, 2))  # fmt: skip
    assert layers["q", 0, 2]["highest"] == pytest.approx(highest, rel=1e-5)
    assert "none exceeds 2.1 times chance" in str(result.summary["reading"])


def test_where_all_would_take_too_long_the_strongest_are_exact(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = plain(model)
    monkeypatch.setattr(composition, "EXACT", 0.0)
    result = spectra.heads(model, compose=True, strongest=5)
    found = result.summary["composition"]
    assert not found["exact"]
    assert found["complete"]
    assert 0.0 < found["error"] < 0.3
    ranked = sorted(expected, key=lambda key: -expected[key][0])
    assert list(told(result)) == ranked[:5]
    for key, one in told(result).items():
        assert one["score"] == pytest.approx(expected[key][0], rel=1e-5)


def test_which_pairs_are_computed_exactly_does_not_hang_on_the_threads(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(composition, "ROOM", 400 << 10)  # lines take 180, Gram matrices 96 each
    monkeypatch.setattr("spectra.kernels.composition.HELD", 12 << 10)
    found = []
    for threads in (1, 8):
        with threads_within(threads):
            found.append(spectra.heads(model, compose=True, cache=False).summary["composition"])
    assert [one["exact"] for one in found] == [True, True]


def test_what_is_told_of_pairs_is_kept_and_nothing_is_read_for_it_again(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "SETTLED", -1.0)  # as of files that are older
    ask = functools.partial(spectra.heads.plan, model, compose=True)
    first = ask(strongest=5).run()
    planned, alone = ask(strongest=5), spectra.heads.plan(model)
    assert planned.estimate().nbytes == alone.estimate().nbytes == 0
    lines = HeadLines.measure

    def refuse(*_: object) -> None:
        raise AssertionError("what is known is measured again")

    monkeypatch.setattr(HeadLines, "measure", refuse)
    again = planned.run()
    assert json.dumps(again.document()["summary"]) == json.dumps(first.document()["summary"])
    whole = len(plain(model))
    for fewer in (3, 6, composition.MOST):  # of what was computed exactly
        known = json.dumps(ask(strongest=fewer).run().document()["summary"])
        with monkeypatch.context() as also:
            also.setattr(HeadLines, "measure", lines)
            anew = spectra.heads(model, compose=True, strongest=fewer, cache=False)
        assert known == json.dumps(anew.document()["summary"])
        assert anew.summary["composition"]["checked"] == fewer < whole

    seen: list[str] = []

    def noted(self: HeadLines, subject: tuple[Attention, Mapping[str, Matrix]]) -> object:
        seen.append(subject[0].module)
        return lines(self, subject)

    monkeypatch.setattr(HeadLines, "measure", noted)
    asked = ({"strongest": composition.MOST + 1}, {"fold": False}, {"layers": [0, 1]})
    for one in asked:  # is another question
        seen.clear()
        ask(**one).run()
        assert len(seen) == (2 if "layers" in one else LAYERS)
    seen.clear()
    spectra.heads(model, compose=True, strongest=5, cache=False)
    assert len(seen) == LAYERS
    tensors = load_file(model / "model.safetensors")
    tensors["model.layers.1.self_attn.o_proj.weight"] *= 2.0
    write_model(model, tensors, (model / "config.json").read_text())
    seen.clear()
    spectra.heads(model, compose=True, strongest=5)
    assert len(seen) == LAYERS


@pytest.mark.parametrize("fewer", [0.0, 1e9])
def test_both_ways_to_score_all_pairs_agree(
    fewer: float, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs, "FEWER", fewer)
    expected: dict[tuple[str, int, int], list[float]] = {}
    for (kind, one, _, other, _), (score, _) in plain(model).items():
        expected.setdefault((kind, one, other), []).append(score)
    result = spectra.heads(model, compose=True)
    for one in result.summary["composition"]["layers"]:
        scores = expected.pop((one["kind"], one["writer_layer"], one["reader_layer"]))
        assert one["highest"] == pytest.approx(max(scores), rel=2e-6)
        assert one["mean"] == pytest.approx(np.mean(scores), rel=2e-6)
    assert not expected


POWERS = (20, 20), (100, 100), (-100, -100), (-90, 30)
WIDE = (-300, 250), (-400, -400), (400, 300)


@pytest.mark.parametrize(
    ("way", "alone", "kind"),
    [("products", False, torch.bfloat16), ("products", True, torch.float32),
     ("grams", True, torch.bfloat16), ("sums", False, torch.float32),
     ("grams", True, torch.float64), ("sums", False, torch.float64)],
)  # fmt: skip
def test_scores_hold_at_every_scale_of_the_weights(
    model: Path, monkeypatch: pytest.MonkeyPatch, way: str, alone: bool, kind: torch.dtype
) -> None:
    monkeypatch.setattr(pairs, "FEWER", 1e9 if way == "grams" else 0.0)
    if way == "sums":
        monkeypatch.setattr(composition, "EXACT", 0.0)
    tensors = {name: one.to(kind) for name, one in load_file(model / "model.safetensors").items()}
    save_file(tensors, model / "model.safetensors")
    expected = plain(model)
    ranked = sorted(expected, key=lambda key: -expected[key][0])[:5]
    sizes = {}
    powers_of = WIDE if kind == torch.float64 else POWERS
    for at, (inner, outer) in enumerate(powers_of):
        powers = {"q_proj": inner, "v_proj": inner, "k_proj": outer, "o_proj": outer}
        changed = {
            name: one * 2.0 ** next((power for role, power in powers.items() if role in name
                                     and (not alone or "layers.0." in name)), 0)
            for name, one in tensors.items()
        }  # fmt: skip
        scaled = model.parent / f"scaled{at}"
        write_model(scaled, changed, (model / "config.json").read_text())
        result = spectra.heads(scaled, compose=True, strongest=5)
        found = told(result)
        assert [*found] == ranked
        for key, one in found.items():
            assert one["score"] == pytest.approx(expected[key][0], rel=1e-5)
        top = found[ranked[0]]["components"][0]["sigma"]
        sizes[at] = top / 2.0 ** (inner + outer)
        reading = str(result.summary["reading"])
        assert "times chance" in reading
    assert [*sizes.values()] == pytest.approx([sizes[0]] * len(sizes), rel=1e-5)


def test_norms_left_out_give_other_scores(model: Path) -> None:
    folded, bare = (told(spectra.heads(model, compose=True, fold=fold)) for fold in (True, False))
    assert folded["q", 0, 1, 2, 3]["score"] != bare["q", 0, 1, 2, 3]["score"]


def test_one_layer_has_nothing_to_read(model: Path) -> None:
    result = spectra.heads(model, compose=True, layers=[1])
    assert result.summary["composition"]["pairs"] == 0
    assert "No head reads what another one writes" in str(result.summary["reading"])


@pytest.mark.parametrize("sound", [0, 1])
def test_where_no_two_layers_have_numbers_that_is_said(model: Path, sound: int) -> None:
    tensors = load_file(model / "model.safetensors")
    for layer in range(sound, LAYERS):
        tensors[f"model.layers.{layer}.self_attn.o_proj.weight"][:] = torch.nan
    save_file(tensors, model / "model.safetensors")
    reading = str(spectra.heads(model, compose=True).summary["reading"])
    assert reading.endswith(" No two heads that may read each other have numbers.")


def test_what_attends_across_reads_the_other_stack(tmp_path: Path) -> None:
    families.build("t5").save_pretrained(tmp_path)
    plan = spectra.heads.plan(tmp_path).question.plan
    modules = modules_of(plan.tasks)
    found = {(one.writer.name, one.reader.name, one.kind) for one in pairs_of(modules)}
    own, across = (
        "decoder.block.{}.layer.0.SelfAttention",
        "decoder.block.{}.layer.1.EncDecAttention",
    )
    encoder = "encoder.block.{}.layer.0.SelfAttention"
    assert (own.format(0), across.format(0), "q") in found
    assert (across.format(0), own.format(1), "v") in found
    assert (own.format(0), across.format(0), "k") not in found
    assert {(encoder.format(i), across.format(j), kind) for i in (0, 1) for j in (0, 1)
            for kind in "kv"} <= found  # fmt: skip
    assert not any(one.startswith("encoder") and other == own.format(1) for one, other, _ in found)


@pytest.mark.parametrize("most", [1e18, 0.0], ids=["all exactly", "summed up"])
def test_heads_without_numbers_are_left_out(
    model: Path, monkeypatch: pytest.MonkeyPatch, most: float
) -> None:
    monkeypatch.setattr(composition, "EXACT", most)
    tensors = load_file(model / "model.safetensors")
    tensors["model.layers.1.self_attn.v_proj.weight"][0, 0] = torch.nan
    broken = write_model(model.parent / "broken", tensors, (model / "config.json").read_text())
    result = spectra.heads(broken, compose=True, strongest=40)
    lost = {(1, head) for head in range(HEADS // KEYS)}  # of the first head of values
    known = {key: score for key, (score, _) in plain(model).items()
             if not {key[1:3], key[3:]} & lost}  # fmt: skip
    pairs: Any = result.summary["composition"]
    assert pairs["pairs"] == len(known)
    assert [*told(result)] == sorted(known, key=lambda key: -known[key])[:40]
    assert {key: one["score"] for key, one in told(result).items()} == pytest.approx(
        {key: known[key] for key in told(result)}, rel=1e-5
    )


def test_a_head_that_writes_nothing_is_read_by_none(model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    tensors["model.layers.0.self_attn.o_proj.weight"][:, :SIZE] = 0.0
    dead = write_model(model.parent / "dead", tensors, (model / "config.json").read_text())
    found = told(spectra.heads(dead, compose=True, strongest=10_000))
    assert found["q", 0, 0, 1, 0]["score"] == 0.0
    assert found["q", 0, 0, 1, 0]["components"] == []


def test_a_dry_run_reads_nothing(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "busy", lambda _: 1.0)  # which varies while others work
    planned = spectra.heads.plan(model, compose=True)
    alone = spectra.heads.plan(model).estimate()
    assert planned.estimate().nbytes == 2 * alone.nbytes
    assert planned.estimate().seconds
    assert isinstance(planned.question, composition.Composition)


@pytest.mark.parametrize("count", [0, -1])
def test_no_pairs_are_refused(count: int, model: Path) -> None:
    with pytest.raises(UsageError, match="Expected at least 1"):
        spectra.heads(model, compose=True, strongest=count)


@pytest.mark.parametrize("summed", [False, True], ids=["all lines", "sums of lines"])
def test_lines_that_stay_count_as_memory(
    model: Path, monkeypatch: pytest.MonkeyPatch, summed: bool
) -> None:
    tasks = spectra.heads.plan(model).question.plan.tasks
    analyzer = HeadLines(summed=summed)
    sink = composition.Kept()
    measured(Local(1), tasks, analyzer, sink=sink)
    lines = [one for held in sink.held.values() for name, one in held.items() if "." not in name]
    kept = analyzer.kept([task.about for task in tasks if task.about])
    assert kept == sum(one.nbytes for one in lines)

    monkeypatch.setattr(memory, "resident", lambda: 0)
    monkeypatch.setattr(memory, "_begun", lambda: 0)
    monkeypatch.setattr(HeadLines, "kept", lambda *_: 10**9)
    monkeypatch.setattr(composition, "EXACT", 0.0 if summed else 1e12)
    seen: list[object] = []
    with pytest.raises(UsageError, match=r"memory=1GB is too little: .* of what stays of all"):
        spectra.heads.plan(model, compose=True, memory="1GB").run(seen.append)
    assert not seen  # before any work
    assert spectra.heads(model, compose=True, memory="2GB").rows


@pytest.mark.parametrize("tokens", [False, True], ids=["pairs", "pairs and tokens"])
def test_one_bar_tells_of_all_stages(model: Path, tokens: bool) -> None:
    if tokens:
        tensors = load_file(model / "model.safetensors")
        tensors |= {name: torch.randn(50, WIDTH)
                    for name in ("model.embed_tokens.weight", "lm_head.weight")}  # fmt: skip
        model = write_model(model.parent / "more", tensors, (model / "config.json").read_text())
    told: list[Progress] = []
    spectra.heads.plan(model, compose=True, tokens=tokens, cache=False, workers=1).run(told.append)
    shares = [one.done / one.total for one in told]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)
    assert [one.count for one in told] == sorted(one.count for one in told)
    stages = LAYERS * (3 if tokens else 2) + (3 if tokens else 0)
    assert {one.of for one in told} == {stages}
    assert (told[-1].count, told[-1].read) == (stages, told[-1].to_read)
    assert len({one.to_read for one in told}) == 1
