"""Directions in tokens against the plain definition, by the modules of models of transformers."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tokenizers
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

import families
import spectra
from examples import write_lora
from spectra.analyzers import Row
from spectra.analyzers.readout import Readout
from spectra.errors import NothingToAnalyseError, UsageError
from spectra.matrices import Matrix
from spectra.runs import vocabulary as tables
from spectra.work import Result, store

Vector = NDArray[np.float64]
ENDS = ("highest", "lowest")


def own_part(norm: Any, stream: Tensor, *, length: bool) -> Tensor:  # noqa: ANN401 - a module
    """Return what a norm makes of a stream without its offset; times its length where asked for.

    Half of the difference of norm(x) and norm(-x): offsets cancel, whatever the norm is.
    """
    if norm is None:
        return stream
    found: Tensor = (norm(stream) - norm(-stream)) / 2.0
    if not length:
        return found
    centred = stream - stream.mean(-1, keepdim=True) if "LayerNorm" in type(norm).__name__ \
        else stream  # fmt: skip
    eps = getattr(norm, "variance_epsilon", getattr(norm, "eps", 0.0))
    return found * (centred.square().mean(-1, keepdim=True) + eps).sqrt()


class Made(NamedTuple):
    """A family, and where the parts are that stand between its matrices and tokens."""

    kind: str
    final: str  # the norm before the head
    embedding: str
    layer: str
    reads: Mapping[str, str]  # by the end of a matrix's name the norm before it
    writes: Mapping[str, str]  # likewise the norm behind it


LLAMA = {
    "self_attn.[qkv]_proj": "input_layernorm",
    "mlp.(gate|up)_proj": "post_attention_layernorm",
}
MADE = (
    Made("llama", "model.norm", "model.embed_tokens", "model.layers.1", LLAMA,
         {"self_attn.o_proj": "", "mlp.down_proj": ""}),
    Made("gemma2", "model.norm", "model.embed_tokens", "model.layers.1",
         {"self_attn.[qkv]_proj": "input_layernorm",
          "mlp.(gate|up)_proj": "pre_feedforward_layernorm"},
         {"self_attn.o_proj": "post_attention_layernorm",
          "mlp.down_proj": "post_feedforward_layernorm"}),
    Made("olmo2", "model.norm", "model.embed_tokens", "model.layers.1",
         {"self_attn.[qkv]_proj": "", "mlp.(gate|up)_proj": ""},
         {"self_attn.o_proj": "post_attention_layernorm",
          "mlp.down_proj": "post_feedforward_layernorm"}),
    Made("gpt2", "transformer.ln_f", "transformer.wte", "transformer.h.1",
         {r"attn.c_attn.weight\[[qkv]\]": "ln_1", "mlp.c_fc": "ln_2"},
         {"attn.c_proj": "", "mlp.c_proj": ""}),
    Made("gpt_neox", "gpt_neox.final_layer_norm", "gpt_neox.embed_in",
         "gpt_neox.layers.1", {r"query_key_value.weight\[[qkv]\]": "input_layernorm",
                               "mlp.dense_h_to_4h": "post_attention_layernorm"},
         {"attention.dense": "", "mlp.dense_4h_to_h": ""}),
    Made("bert", "", "bert.embeddings.word_embeddings",
         "bert.encoder.layer.0",
         {"attention.self.(query|key|value)": "bert.embeddings.LayerNorm",
          "intermediate.dense": "attention.output.LayerNorm"},
         {"attention.output.dense": "", "[0-9].output.dense": ""}),
)  # fmt: skip


def with_gains(model: Any) -> Any:  # noqa: ANN401 - a model
    """Return a model whose norms do more than to divide by a length."""
    torch.manual_seed(3)
    with torch.no_grad():
        for name, one in model.named_parameters():
            if one.ndim == 1 and re.search("norm|ln_", name, re.IGNORECASE):
                one.add_(0.4 * torch.randn(one.shape))
    return model.eval()


def part(model: Any, name: str, layer: str = "") -> Any:  # noqa: ANN401 - a model and its modules
    if not name:
        return None
    return model.get_submodule(name if not layer or name.startswith("bert") else f"{layer}.{name}")


def assert_ends(reading: Mapping[str, Any], scores: Vector) -> None:
    """Hold the tokens of both ends against all products; either end may be the upper one."""
    order = np.argsort(-scores)
    if {one["id"] for one in reading["highest"]} != set(order[:10].tolist()):
        scores, order = -scores, np.argsort(scores)
    for name, some in (("highest", order[:10]), ("lowest", order[::-1][:10])):
        assert [one["id"] for one in reading[name]] == some.tolist(), reading
        weights = [one["weight"] for one in reading[name]]
        assert weights == pytest.approx(scores[some], rel=1e-3, abs=1e-6)


def told(row: Row) -> list[Mapping[str, Any]]:
    found: Any = row.values["tokens"]
    return list(found)


def notes_of(result: Result) -> list[str]:
    found: Any = result.summary["notes"]
    return list(found)


@pytest.mark.parametrize("made", MADE, ids=lambda one: one.kind)
def test_leading_directions_are_read_as_the_model_itself_would(made: Made, tmp_path: Path) -> None:
    model = with_gains(families.build(made.kind))
    model.save_pretrained(tmp_path)
    layer = made.layer.rpartition(".")[2]
    result = spectra.spectrum(tmp_path, layers=layer, tokens=True)
    final, head = (
        part(model, made.final),
        model.get_output_embeddings().weight.detach().double().numpy(),
    )
    table = part(model, made.embedding).weight.detach()
    views = {view.name: view for view in spectra.spectrum.plan(tmp_path).question.plan.views}
    seen = set()
    for row in result.rows:
        if row.values["tokens_status"] != "ok":
            continue
        view = views[row.matrix]
        stored = model.state_dict()[view.entry.name]
        u, sigma, v = np.linalg.svd(view.of(stored).double().numpy(), full_matrices=False)
        before = next((name for end, name in made.reads.items()
                       if re.search(rf"{end}(\.weight)?$", row.matrix)), None)  # fmt: skip
        behind = next((name for end, name in made.writes.items()
                       if re.search(rf"{end}(\.weight)?$", row.matrix)), None)  # fmt: skip
        assert len(told(row)) == 3
        for reading in told(row):
            at = reading["index"]
            assert reading["sigma"] == pytest.approx(sigma[at], rel=1e-5)
            with torch.no_grad():
                if before is not None:
                    assert reading["does"] == "reads"
                    norm = part(model, before, made.layer)
                    scores = own_part(norm, table, length=True).double().numpy() @ v[at]
                else:
                    assert behind is not None
                    assert reading["does"] == "writes"
                    vector = torch.tensor(u[:, at], dtype=table.dtype)
                    norm = part(model, behind, made.layer)
                    vector = own_part(norm, vector, length=True)
                    vector = own_part(final, vector, length=True)
                    scores = head @ vector.double().numpy()
            assert_ends(reading, scores)
            seen.add(row.matrix)
    assert len(seen) >= 5


WIDTH, HEADS, KEYS, SIZE, ROWS = 24, 4, 2, 6, 120
Write = Callable[..., tuple[Path, dict[str, Tensor]]]


def named(rows: int = ROWS) -> tokenizers.Tokenizer:
    """Return a byte-level tokenizer: a space before each word, one that breaks off in a letter."""
    words = {f"Ġword{at}": at for at in range(rows - 3)}
    words |= {"âĤ": rows - 3, "Ċ": rows - 2, "\x1b": rows - 1}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, "Ġword0"))
    made.decoder = tokenizers.decoders.ByteLevel()
    return made


@pytest.fixture
def write(tmp_path: Path, generator: torch.Generator) -> Write:
    """Write a model of grouped heads whose head is not its embedding, and its tokenizer."""

    def made(
        name: str = "model", count: int | None = ROWS, **changed: Tensor
    ) -> tuple[Path, dict[str, Tensor]]:
        tensors = {
            "model.embed_tokens.weight": torch.randn(ROWS, WIDTH, generator=generator),
            "lm_head.weight": torch.randn(ROWS, WIDTH, generator=generator),
            "model.norm.weight": 0.5 + torch.rand(WIDTH, generator=generator),
        }
        for layer in range(2):
            own = f"model.layers.{layer}"
            tensors[f"{own}.input_layernorm.weight"] = 0.5 + torch.rand(WIDTH, generator=generator)
            for role, rows, cols in (
                ("q", HEADS * SIZE, WIDTH),
                ("k", KEYS * SIZE, WIDTH),
                ("v", KEYS * SIZE, WIDTH),
                ("o", WIDTH, HEADS * SIZE),
            ):
                made = torch.randn(rows, cols, generator=generator)
                tensors[f"{own}.self_attn.{role}_proj.weight"] = made
        tensors |= changed
        folder = tmp_path / name
        folder.mkdir()
        save_file(tensors, folder / "model.safetensors")
        config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"],
                  "num_attention_heads": HEADS, "num_key_value_heads": KEYS}  # fmt: skip
        (folder / "config.json").write_text(json.dumps(config))
        if count is not None:
            named(count).save(str(folder / "tokenizer.json"))
        return folder, tensors

    return made


def maps(tensors: Mapping[str, Tensor], layer: int, head: int) -> tuple[Vector, Vector]:
    own = f"model.layers.{layer}"
    q, k, v, o = (tensors[f"{own}.self_attn.{one}_proj.weight"].double().numpy() for one in "qkvo")
    gain = tensors[f"{own}.input_layernorm.weight"].double().numpy()
    mine, shared = (slice(at * SIZE, (at + 1) * SIZE) for at in (head, head // 2))
    return o[:, mine] @ (v[shared] * gain), (q[mine] * gain).T @ (k[shared] * gain)


def test_heads_are_read_and_copy_tokens_by_the_plain_definition(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "STRETCH", 17 * WIDTH)  # of no whole number of stretches
    folder, tensors = write()
    head = (
        tensors["lm_head.weight"].double().numpy() * tensors["model.norm.weight"].double().numpy()
    )
    table = tensors["model.embed_tokens.weight"].double().numpy()
    for row in spectra.heads(folder, tokens=True).rows:
        ov, qk = maps(tensors, row.place.layer or 0, int(row.number("head") or 0))
        values = np.linalg.eigvals(head @ ov @ table.T)
        expected = values.real.sum() / np.abs(values).sum()
        assert row.values["copying_tokens"] == pytest.approx(expected, abs=1e-5)
        u, sigma, v = np.linalg.svd(ov)
        query, _, key = np.linalg.svd(qk)
        found = {(one["of"], one["does"]): one for one in told(row)}
        assert found["ov", "writes"]["sigma"] == pytest.approx(sigma[0], rel=1e-5)
        for name, scores in (
            (("ov", "writes"), head @ u[:, 0]), (("ov", "reads"), table @ v[0]),
            (("qk", "query"), table @ query[:, 0]), (("qk", "key"), table @ key[0]),
        ):  # fmt: skip
            assert_ends(found[name], scores)
        # Both ends go together: what is read with a sign is written with it.
        signs = [
            np.sign(found["ov", does]["highest"][0]["weight"]) == np.sign(scores[
                found["ov", does]["highest"][0]["id"]])
            for does, scores in (("writes", head @ u[:, 0]), ("reads", table @ v[0]))
        ]  # fmt: skip
        assert signs[0] == signs[1]


def test_what_is_written_passes_the_norm_that_the_last_layer_ends_with(tmp_path: Path) -> None:
    model = families.build("bart")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1 and name.endswith("norm.weight"):
                parameter.uniform_(0.5, 1.5)
            elif parameter.ndim == 2:
                parameter.normal_()
    model.save_pretrained(tmp_path)
    result = spectra.heads(tmp_path, tokens=True, include="*decoder.layers.*.self_attn*")
    layers = model.model.decoder.layers
    last = len(layers) - 1
    about: Any = result.summary["tokens"]
    assert about["norm"] == f"model.decoder.layers.{last}.final_layer_norm.weight"
    assert (about["folded"], about["bent"]) == ("layer", False)
    table = model.lm_head.weight.detach().double().numpy()
    gain = layers[last].final_layer_norm.weight.detach().double().numpy()
    row = next(row for row in result.rows if row.place.layer == last and row.number("head") == 0)
    own = layers[last].self_attn
    before = layers[last - 1].final_layer_norm.weight.detach().double().numpy()
    values = own.v_proj.weight.detach().double().numpy()[: own.head_dim] * before
    values -= values.mean(axis=1, keepdims=True)
    written = own.out_proj.weight.detach().double().numpy()[:, : own.head_dim]
    u = np.linalg.svd(written @ values)[0][:, 0]
    (reading,) = (one for one in told(row) if (one["of"], one["does"]) == ("ov", "writes"))
    assert_ends(reading, table @ (gain * (u - u.mean())))


@pytest.mark.parametrize(("sign", "told"), [
    (1.0, "By their tokens 4 copy, most of all layer 1 head "),
    (-1.0, "By their tokens none copies (score of 0.5 or more), and 4 take away what is read."),
])  # fmt: skip
def test_what_takes_tokens_away_is_counted(write: Write, sign: float, told: str) -> None:
    own = "model.layers.1.self_attn."
    _, tensors = write("plain")
    values = tensors[f"{own}v_proj.weight"]
    heads = tensors[f"{own}o_proj.weight"].shape[1] // SIZE
    shared = values.unflatten(0, (-1, SIZE)).repeat_interleave(heads * SIZE // len(values), 0)
    table = tensors["model.embed_tokens.weight"]
    folder, _ = write(**{
        f"{own}v_proj.weight": values,
        f"{own}o_proj.weight": sign * shared.flatten(0, 1).mT.contiguous(),
        "model.embed_tokens.weight": table,
        "lm_head.weight": table.clone(), "model.norm.weight": torch.ones(table.shape[1]),
        f"{own}input_layernorm.weight": torch.ones(table.shape[1]),
    })  # fmt: skip
    assert told in str(spectra.heads(folder, tokens=True, layers=[1]).summary["reading"])


def test_copying_of_tokens_holds_at_every_scale(write: Write) -> None:
    folder, tensors = write()
    copies = [row.number("copying_tokens") for row in spectra.heads(folder, tokens=True).rows]
    for power in (-100, 100):
        scaled, _ = write(f"by{power}", **{
            name: one * 2.0**power if one.ndim == 2 else one for name, one in tensors.items()
        })  # fmt: skip
        found = [row.number("copying_tokens") for row in spectra.heads(scaled, tokens=True).rows]
        assert found == pytest.approx(copies, rel=1e-5)


def test_a_planted_token_is_named(write: Write) -> None:
    _, tensors = write()
    writes = (tensors["lm_head.weight"] / tensors["lm_head.weight"].norm(dim=1, keepdim=True))[7]
    own = "model.layers.1.self_attn.o_proj.weight"
    planted = writes / tensors["model.norm.weight"]
    tuned, _ = write("tuned", **{
        **tensors, own: tensors[own] + 300.0 * torch.outer(planted, torch.ones(HEADS * SIZE)),
    })  # fmt: skip
    # Against the unit rows, of which none resembles another one as much.
    tensors["lm_head.weight"] = torch.nn.functional.normalize(tensors["lm_head.weight"])
    base, _ = write("base", **tensors)
    result = spectra.diff(base, tuned, intruders=True, k=2, tokens=True)
    row = next(one for one in result.rows if one.matrix == own)
    intruder = next(one for one in told(row) if one["of"] == "intruder")
    largest = max((intruder[end][0] for end in ENDS), key=lambda one: abs(one["weight"]))
    assert (largest["id"], largest["token"]) == (7, " word7")
    assert "␣word7" in str(result.summary["reading"])
    # Beside it the base's own direction that resembles it most, by the base's decomposition.
    match = next(one for one in told(row) if one["of"] == "match")
    u = np.linalg.svd(tensors[own].double().numpy())[0][:, match["index"]]
    head = (
        tensors["lm_head.weight"].double().numpy() * tensors["model.norm.weight"].double().numpy()
    )
    assert_ends(match, head @ u)
    assert (match["index"], match["intruder"]) == (intruder["match"], intruder["index"])
    unchanged = [one for one in result.rows if not one.values["intruders"]]
    assert {one.values["tokens_status"] for one in unchanged} == {"no intruders"}


def test_intruders_of_an_adapter_are_read_by_its_base(write: Write, tmp_path: Path) -> None:
    folder, tensors = write()
    lora = write_lora(tmp_path / "lora", {"model.layers.0.self_attn.q_proj": (HEADS * SIZE, WIDTH)})
    held = load_file(lora / "adapter_model.safetensors")
    token = (
        tensors["model.embed_tokens.weight"][31] / tensors["model.layers.0.input_layernorm.weight"]
    )
    for name, one in held.items():
        held[name] = one * 0 + (100.0 * token if "lora_A" in name else torch.ones(one.shape))
    save_file(held, lora / "adapter_model.safetensors")
    result = spectra.diff(folder, lora, intruders=True, k=1, side="right", tokens=True)
    row = next(one for one in result.rows if told(one))
    intruder = told(row)[0]
    assert (intruder["does"], intruder["through"]) == ("reads", "embedding")
    largest = max((intruder[end][0] for end in ENDS), key=lambda one: abs(one["weight"]))
    assert (largest["id"], largest["token"]) == (31, " word31")


def test_rows_beyond_the_tokenizer_are_named_by_their_number(write: Write) -> None:
    folder, _ = write(count=100)
    result = spectra.spectrum(folder, tokens=True, role="attn.o")
    names = [one["token"] for row in result.rows for reading in told(row)
             for end in ENDS for one in reading[end] if one["id"] >= 100]  # fmt: skip
    assert names
    assert all(re.fullmatch("<row 1[01][0-9]>", one) for one in names)
    notes = notes_of(result)
    assert any("20 rows of lm_head.weight are no token of tokenizer.json" in one for one in notes)


@pytest.mark.parametrize(
    ("count", "note"),
    [(150, "tokenizer.json names 150 tokens, and lm_head.weight has 120 rows: they may not belong"),
     (None, "is no tokenizer.json, nor vocab.json, vocab.txt, tokenizer.model, spiece.model.")],
    ids=["too_many", "none"],
)  # fmt: skip
def test_a_tokenizer_that_does_not_fit_is_told(write: Write, count: int | None, note: str) -> None:
    folder, _ = write(count=count)
    result = spectra.spectrum(folder, tokens=True, role="attn.o")
    assert any(note in one for one in notes_of(result))
    if count is None:
        assert told(result.rows[0])[0]["highest"][0]["token"].startswith("<row ")


def test_what_touches_no_stream_says_why(write: Write) -> None:
    folder, _ = write(**{
        "model.layers.0.mlp.up_proj.weight": torch.randn(8, WIDTH + 4),
        "pooler.dense.weight": torch.randn(WIDTH, WIDTH),
        "model.layers.1.mlp.down_proj.weight": torch.zeros(WIDTH, 8),
    })  # fmt: skip
    rows = {row.matrix: row.values for row in spectra.spectrum(folder, tokens=True).rows}
    why = {name: rows[name]["tokens_status"] for name in rows if not rows[name]["tokens"]}
    assert why == {
        "model.layers.0.mlp.up_proj.weight": "its 28 inputs are not the 24 numbers of the stream",
        "pooler.dense.weight":
            "whether it reads from the stream or writes to it is not known by its name",
        "model.layers.1.mlp.down_proj.weight": "it is 0 in every entry",
    }  # fmt: skip


def test_a_broken_head_leaves_what_reads(write: Write) -> None:
    _, tensors = write()
    tensors["lm_head.weight"][5, 3] = torch.nan
    broken, _ = write("broken", **tensors)
    row = spectra.heads(broken, tokens=True).rows[0]
    assert {one["does"] for one in told(row)} == {"reads", "query", "key"}
    assert row.values["tokens_status"] == "lm_head.weight holds NaN or Inf: nothing is read by it"
    assert row.values["copying_tokens"] is None


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [("model.norm.weight", torch.nan, "a norm on the way holds NaN or Inf: nothing is read by it"),
     ("lm_head.weight", 0.0, "every token has the same weight: nothing tells them apart")],
)  # fmt: skip
def test_no_token_is_told_where_none_stands_out(
    write: Write, name: str, value: float, why: str
) -> None:
    _, tensors = write()
    broken, _ = write("broken", **{**tensors, name: torch.full_like(tensors[name], value)})
    found = spectra.heads(broken, tokens=True)
    row = found.rows[0]
    assert {one["does"] for one in told(row)} == {"reads", "query", "key"}
    assert row.values["tokens_status"] == why
    assert row.values["copying_tokens"] is None
    assert any(note.startswith("tokens of ") and note.endswith(why) for note in notes_of(found))


@pytest.mark.parametrize(
    ("kind", "where", "count", "why"),
    [("whisper", "model.encoder.", 0, [
        "OV reads, QK query, QK key: the encoder's stream does not begin with tokens",
        "OV writes: the encoder writes it, and the decoder alone is read by the output head"]),
     ("t5", "EncDecAttention", 2, [
         ("OV reads, QK key: it reads what another stack has written, not what its tokens come in "
          "as")]),
     ("t5", "decoder.block.0.layer.0", 4, ["ok"]),
     ("clip", "vision_model", 0, [
         ("OV reads, OV writes, QK query, QK key: it is in the vision or audio part, whose stream "
          "holds no tokens")])],
    ids=["audio", "across", "decoder", "vision"],
)  # fmt: skip
def test_heads_beside_the_stream_of_tokens_say_why(
    kind: str, where: str, count: int, why: list[str], tmp_path: Path
) -> None:
    families.build(kind).save_pretrained(tmp_path)
    rows = [row for row in spectra.heads(tmp_path, tokens=True).rows if where in row.matrix]
    assert rows
    for row in rows:
        assert row.values["tokens_status"] == "; ".join(why)
        assert len(told(row)) == count
        assert (row.values["copying_tokens"] is None) == (count < 4)


@pytest.mark.parametrize("ask", [spectra.heads, spectra.spectrum], ids=["heads", "spectrum"])
def test_tokens_are_kept_and_nothing_is_read_for_them_again(
    ask: Any, write: Write, monkeypatch: pytest.MonkeyPatch  # noqa: ANN401 - an analysis
) -> None:  # fmt: skip
    monkeypatch.setattr(store, "SETTLED", -1.0)  # as of files that are older
    folder, tensors = write()
    measure, seen = Readout.measure, list[object]()

    def noted(self: Readout, subject: Mapping[str, Matrix]) -> object:
        seen.append(self)
        return measure(self, subject)

    monkeypatch.setattr(Readout, "measure", noted)
    first = ask(folder, tokens=True)
    assert seen
    seen.clear()
    assert ask.plan(folder, tokens=True).estimate().nbytes == 0
    again = ask(folder, tokens=True)
    assert not seen
    assert json.dumps(again.document()["rows"]) == json.dumps(first.document()["rows"])

    (folder / "tokenizer.json").unlink()  # names are none of what is kept
    nameless = ask(folder, tokens=True)
    assert not seen
    assert readings(nameless.rows)[0]["highest"][0]["token"].startswith("<row ")

    for name in ("model.norm.weight", "model.layers.0.input_layernorm.weight", "lm_head.weight"):
        tensors[name] = tensors[name].flip(0)
        save_file(tensors, folder / "model.safetensors")
        seen.clear()
        other = ask(folder, tokens=True)
        assert seen, name
        fresh = ask(folder, tokens=True, cache=False)
        assert json.dumps(other.document()["rows"]) == json.dumps(fresh.document()["rows"])


def test_the_head_is_never_held_in_whole(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = write()
    monkeypatch.setattr(tables, "STRETCH", 16 * WIDTH)
    analysis: Any = spectra.spectrum.plan(folder, tokens=True).question
    found = tables.tasks_of(analysis.source, analysis.vocabulary, "head")
    assert sum(task.views[0].rows for task in found) == ROWS
    assert max(task.views[0].rows for task in found) == 16
    assert spectra.spectrum(folder, tokens=True).rows  # and whole results come of it


@pytest.mark.parametrize(
    ("given", "error"),
    [({"tokens": True}, "Add intruders=True"),
     ({"tokens": True, "intruders": True, "several": True}, "of one TUNED, got 2")],
    ids=["without_intruders", "of_several"],
)  # fmt: skip
def test_words_of_what_is_not_looked_for_are_refused(
    write: Write, given: Mapping[str, Any], error: str
) -> None:
    folder, _ = write()
    asked = {key: value for key, value in given.items() if key != "several"}
    tuned: Any = [folder, folder] if given.get("several") else folder
    with pytest.raises(UsageError, match=error):
        spectra.diff(folder, tuned, **asked)


def test_a_model_without_tokens_is_refused(tmp_path: Path) -> None:
    families.build("vit").save_pretrained(tmp_path)
    with pytest.raises(NothingToAnalyseError, match="neither that is known by its name"):
        spectra.spectrum(tmp_path, tokens=True)


def test_nothing_is_read_without_the_package(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = write()
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UsageError, match="pip install tokenizers"):
        spectra.heads(folder, tokens=True)


def readings(rows: Sequence[Any]) -> list[Mapping[str, Any]]:
    return [one for row in rows for one in told(row)]


def test_a_real_encoder_is_read_by_its_input_embedding(minilm: Path) -> None:
    result = spectra.heads(minilm, layers="2", tokens=True)
    about: Any = result.summary["tokens"]
    assert (about["through"], about["folded"], about["tokenizer"]) == (
        "input embedding", "none", "tokenizer.json")  # fmt: skip
    words = json.loads((minilm / "tokenizer.json").read_text())["model"]["vocab"]
    assert all(words[one["token"]] == one["id"] for found in readings(result.rows)
               for end in ENDS for one in found[end] if one["token"] in words)  # fmt: skip
    assert len(readings(result.rows)) == 4 * 12
