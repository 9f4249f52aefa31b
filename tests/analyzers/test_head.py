"""`diff --per-head`: rows and ranking of heads, against slices and CLIP-SVD's own measure."""

import itertools
import json
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import spectra
from examples import write_lora, write_model
from spectra.analyzers import ablation
from spectra.errors import UsageError

WIDTH, SIZE, QUERIES, KEYS, LAYERS = 32, 8, 4, 2, 2
CONFIG = {"model_type": "llama", "num_attention_heads": QUERIES, "num_key_value_heads": KEYS}
SHAPES = {
    "q_proj": (QUERIES * SIZE, WIDTH), "k_proj": (KEYS * SIZE, WIDTH),
    "v_proj": (KEYS * SIZE, WIDTH), "o_proj": (WIDTH, QUERIES * SIZE),
}  # fmt: skip
MODEL = dict[str, Tensor]


def normal(rows: int, cols: int, seed: int, scale: float = 0.1) -> Tensor:
    return scale * torch.randn(rows, cols, generator=torch.Generator().manual_seed(seed))


def named(layer: int, part: str) -> str:
    return f"model.layers.{layer}.self_attn.{part}.weight"


def model(shift: int = 0, scale: float = 0.1) -> MODEL:
    found = {
        named(layer, part): normal(*shape, 10 * layer + at + shift, scale)
        for layer in range(LAYERS)
        for at, (part, shape) in enumerate(SHAPES.items())
    }
    down = [normal(WIDTH, 48, 90 + layer + shift, scale) for layer in range(LAYERS)]
    return found | {f"model.layers.{i}.mlp.down_proj.weight": one for i, one in enumerate(down)}


def cut(part: str, head: int, whole: Tensor) -> Tensor:
    lines = slice(head * SIZE, (head + 1) * SIZE)
    return whole[:, lines] if part == "o_proj" else whole[lines]


def clip_svd(before: Tensor, after: Tensor) -> float:
    one, other = (torch.linalg.svdvals(w.double()) for w in (before, after))
    off = other / other.norm() - one / one.norm()
    return float(off.norm() * off.mean().sign())


def factors_of(adapter: Path, modules: Iterable[str]) -> dict[str, tuple[Tensor, Tensor]]:
    held = load_file(adapter / "adapter_model.safetensors")
    names = ("lora_B", "lora_A")
    return {
        module: (held[f"base_model.model.{module}.{names[0]}.weight"],
                 held[f"base_model.model.{module}.{names[1]}.weight"])
        for module in modules
    }  # fmt: skip


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path, MODEL, MODEL]:
    base, more = model(), model(200, 0.01)
    tuned = {name: values + more[name] for name, values in base.items()}
    for layer in range(LAYERS):  # one value head moves far
        cut("v_proj", 1, tuned[named(layer, "v_proj")]).mul_(torch.linspace(0, 2, WIDTH))
    config = json.dumps(CONFIG)
    here = write_model(tmp_path / "a", base, config), write_model(tmp_path / "b", tuned, config)
    return *here, base, tuned


def test_rows_are_heads_and_what_is_no_attention_stays_whole(
    pair: tuple[Path, Path, MODEL, MODEL],
) -> None:
    before, after, base, tuned = pair
    result = spectra.diff(before, after, per_head=True, frame="base", k=2, intruders=True)
    assert len(result.rows) == LAYERS * (2 * QUERIES + 2 * KEYS + 1)
    for row in result.rows:
        whole, other = base[row.place.tensor], tuned[row.place.tensor]
        part = row.place.tensor.split(".")[-2]
        if part == "down_proj":
            assert row.values["head"] is row.values["head_change"] is None
            continue
        head = int(str(row.values["head"]))
        one, two = cut(part, head, whole), cut(part, head, other)
        assert row.matrix == f"{row.place.tensor}[head={head}]"
        assert (row.place.rows, row.place.cols) == one.shape
        norm = float((two.double() - one.double()).norm())
        assert row.values["delta_norm"] == pytest.approx(norm, rel=1e-5)
        assert row.values["head_change"] == pytest.approx(clip_svd(one, two), rel=1e-4)
        left, _, right = torch.linalg.svd(one.double(), full_matrices=False)
        block = left.mT @ (two.double() - one.double()) @ right.mT
        share = float(block.diagonal().square().sum()) / norm**2
        assert row.values["frame_diagonal"] == pytest.approx(share, rel=1e-4)
        group = QUERIES // KEYS if part in {"q_proj", "o_proj"} else 1
        assert row.values["kv_head"] == head // group


def test_heads_are_ranked_with_the_keys_and_values_they_use(
    pair: tuple[Path, Path, MODEL, MODEL],
) -> None:
    before, after, base, tuned = pair
    result = spectra.diff(before, after, per_head=True)
    heads = result.summary["heads"]
    assert len(heads) == LAYERS * QUERIES
    for head in heads:
        layer, own, key = head["layer"], head["head"], head["kv_head"]
        assert key == own // (QUERIES // KEYS)
        expected = 0.0
        for short, part, at in (("v", "v_proj", key), ("o", "o_proj", own)):
            name = named(layer, part)
            moved = clip_svd(cut(part, at, base[name]), cut(part, at, tuned[name]))
            assert head[f"change_{short}"] == pytest.approx(moved, rel=1e-4)
            expected += abs(moved)
        assert head["change"] == pytest.approx(expected, rel=1e-4)
    assert {head["kv_head"] for head in heads[:4]} == {1}
    assert [head["change"] for head in heads] == sorted(
        (head["change"] for head in heads), reverse=True
    )
    first = heads[0]
    told = "Most changed of 8 attention heads, by their singular values of V and O: layer "
    assert told + f"{first['layer']} head {first['head']} (" in result.summary["reading"]


ALL = LAYERS * (2 * QUERIES + 2 * KEYS)  # heads of all matrices


def test_sentences_count_matrices_and_name_heads_beside_them(
    pair: tuple[Path, Path, MODEL, MODEL],
) -> None:
    before, after, base, tuned = pair
    result = spectra.diff(
        before, after, per_head=True, intruders=True, epsilon=0.8, side="right", dct_rank=9
    )
    told, held = result.summary["reading"], LAYERS * 5
    assert (result.summary["matrices"], result.summary["changed"]) == (held, held)
    assert f"({held} of {held} matrices, 8 of them in {ALL} heads)" in told
    holders = [row for row in result.rows if row.values["intruders"]]
    with_some = {row.place.tensor for row in holders}
    assert result.summary["matrices_with_intruders"] == len(with_some) < len(holders)
    assert f" in {len(with_some)} of {held} changed matrices, " in told
    assert f" in {sum('head' in row.matrix for row in holders)} of {ALL} heads (top 10" in told
    assert [note.partition(";")[0] for note in result.summary["notes"]] == [
        "--k 10: the smallest changed head has 8 singular vectors",
        "--dct-rank 9: the smallest head has 8 columns of cosines",
    ]
    tuned[named(0, "q_proj")] = base[named(0, "q_proj")].clone()
    cut("q_proj", 2, tuned[named(0, "q_proj")]).mul_(2.0)
    fewer = write_model(after.parent / "c", tuned, json.dumps(CONFIG))
    result = spectra.diff(before, fewer, per_head=True, role="attn.q", layers="0")
    name = f"{named(0, 'q_proj')}[head=2]"
    assert result.summary["reading"].startswith(
        f"Recognised (1 of 1 matrix, in 1 of 4 heads): {name} became the base's times 2."
    )
    assert "3 heads unchanged" in str(result)
    same = spectra.diff(before, before, per_head=True).summary["reading"]
    assert same.startswith(f"Nothing changed in {held} matrices.")


@pytest.mark.parametrize("rank", [2, 5, 8, 12], ids="rank-{}".format)
def test_a_rank_that_heads_hide_is_not_made_up(tmp_path: Path, rank: int) -> None:
    """A LoRA of more than half as many directions as a head of 8 has."""
    base = model()
    parts = "q_proj", "v_proj"
    modules = {named(0, part).removesuffix(".weight"): SHAPES[part] for part in parts}
    adapter = write_lora(tmp_path / "lora", modules, rank)
    tuned = dict(base)
    for module, (one, two) in factors_of(adapter, modules).items():
        tuned[f"{module}.weight"] = base[f"{module}.weight"] + 0.02 * one @ two
    config = json.dumps(CONFIG)
    before = write_model(tmp_path / "a", base, config)
    after = write_model(tmp_path / "b", tuned, config)
    on = f" on attention of 1 layer (2 of 10 matrices, in 6 of {ALL} heads)."
    told = [
        spectra.diff(before, one, per_head=True).summary["reading"].split(on)[0]
        for one in (adapter, after)
    ]
    known = f"The change looks like a rank-{rank} LoRA"
    least = f"The change looks like a LoRA of rank {min(rank, SIZE)} or more"
    hidden = f"{least} or full fine-tuning, which heads are too small to tell apart,"
    assert told == [known if rank < SIZE else least, known if 2 * rank <= SIZE else hidden]


@pytest.mark.parametrize(("size", "rank"), [(8, 10), (16, 16), (16, 24), (16, 0), (32, 24)])
def test_a_few_heads_decide_nothing(tmp_path: Path, size: int, rank: int) -> None:
    """Rows as short as a head's lie along the base's by chance; 0 stands for a full update."""
    config = json.dumps({"model_type": "llama", "num_attention_heads": 4})
    shapes = {"q_proj": (4 * size, 64), "k_proj": (4 * size, 64), "o_proj": (64, 4 * size)}
    rows = []
    for seed in range(5):
        source = torch.Generator().manual_seed(seed)
        base, tuned = {}, {}
        for layer, (part, (high, wide)) in itertools.product(range(3), shapes.items()):
            one, two, old = (
                torch.randn(*shape, generator=source)
                for shape in ((high, rank or wide), (rank or wide, wide), (high, wide))
            )
            base[named(layer, part)] = old
            tuned[named(layer, part)] = old + 0.01 * one @ two
        folders = [write_model(tmp_path / f"{name}{seed}", held, config)
                   for name, held in (("a", base), ("b", tuned))]  # fmt: skip
        found = spectra.diff(*folders, per_head=True)
        assert found.summary["reading"].startswith(
            f"The change looks like a LoRA of rank {min(rank or size, size)} or more or full "
            "fine-tuning, which heads are too small to tell apart,"
        )
        rows += [row.values["delta_kind"] for row in found.rows]
    assert set(rows) == {"full rank"}


def test_one_head_of_scaled_rows_is_no_word_on_the_others(tmp_path: Path) -> None:
    base, more = model(), model(200, 0.01)
    tuned = {name: base[name] + more[name] * ("mlp" not in name) for name in base}
    cut("q_proj", 1, tuned[named(0, "q_proj")]).copy_(
        cut("q_proj", 1, base[named(0, "q_proj")]) * torch.linspace(1.1, 2.0, SIZE)[:, None]
    )
    scaled = {  # as (IA)^3 scales keys and values
        name: held * (1.1 + torch.arange(len(held))[:, None] / 50) if name[-13] in "kv" else held
        for name, held in base.items()
    }
    folders = [write_model(tmp_path / name, held, json.dumps(CONFIG))
               for name, held in (("a", base), ("b", tuned), ("c", scaled))]  # fmt: skip
    few = spectra.diff(folders[0], folders[1], per_head=True)
    kinds = {row.matrix: row.values["delta_kind"] for row in few.rows}
    assert [name for name, kind in kinds.items() if kind == "scaled rows"] == [
        f"{named(0, 'q_proj')}[head=1]"
    ]
    assert "or full fine-tuning, which heads are too small to tell apart," in few.summary["reading"]
    every = spectra.diff(folders[0], folders[2], per_head=True).summary["reading"]
    assert every.startswith(
        "The change looks like full fine-tuning or a LoRA that scales rows (DoRA) on attention of "
        "2 layers (4 of 10 matrices"
    )


def test_heads_are_ranked_by_what_of_them_was_compared(tmp_path: Path) -> None:
    base = model()
    queries = {name: held + 0.1 * ("q_proj" in name) for name, held in base.items()}
    value = dict(queries)
    value[named(1, "v_proj")] = base[named(1, "v_proj")] + normal(KEYS * SIZE, WIDTH, 7)
    a, b, c = (
        write_model(tmp_path / str(at), held, json.dumps(CONFIG))
        for at, held in enumerate((base, queries, value))
    )

    def told(tuned: Path, role: str | None = None) -> str:
        reading = spectra.diff(a, tuned, per_head=True, role=role).summary["reading"]
        return " ".join(reading.split("heads).")[1:]).strip()

    assert told(b) == "No V or O of 8 attention heads changed."
    assert told(b, "attn.q") == ""
    assert told(c).startswith("Most changed of 8 attention heads, by their singular values of V "
                              "and O: layer 1 head ")  # fmt: skip
    assert "layer 0" not in told(c)
    assert "by their singular values of V: layer 1" in told(c, "attn.v")
    twice = {name: held * (2.0 if "v_proj" in name else 1.0) for name, held in base.items()}
    d = write_model(tmp_path / "3", twice, json.dumps(CONFIG))
    assert (
        spectra.diff(a, d, per_head=True)
        .summary["reading"]
        .endswith(" The singular values of V and O kept their proportions in every attention head.")
    )


def test_an_ablation_by_head_is_that_of_whole_matrices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ablation, "DRAWS", 2000)  # of other numbers each: ends of 20 scatter
    width, heads, layers = 128, 8, 3
    names = [
        f"model.layers.{layer}.{part}.weight"
        for layer in range(layers)
        for part in ("self_attn.o_proj", "mlp.down_proj")
    ]
    base = {name: normal(width, width, seed) for seed, name in enumerate(names)}
    unit = torch.linalg.qr(normal(width, 1, 99)).Q
    tuned = {  # and something else beside it
        name: values
        - unit @ (unit.mT @ values)
        + normal(width, 2, 200 + seed, 0.03) @ normal(2, width, 300 + seed, 0.03)
        for seed, (name, values) in enumerate(base.items())
    }
    config = json.dumps({"model_type": "llama", "num_attention_heads": heads})
    folders = [write_model(tmp_path / name, held, config)
               for name, held in (("a", base), ("b", tuned))]  # fmt: skip
    split, whole = (spectra.diff(*folders, per_head=by) for by in (True, False))
    assert whole.summary["reading"].startswith(
        "An ablation: one direction was taken out of 6 of 6 changed matrices that write to"
    )
    assert split.summary["reading"].startswith(
        "An ablation: one direction was taken out of 6 of 6 changed matrices, 3 of them in 24 "
        "heads that write to"
    )
    (one,), (other,) = (result.summary["directions"] for result in (split, whole))
    for key in ("matrices", "changed", "ablated", "kind", "untouched_layers"):
        assert one[key] == other[key]
    for key in ("share", "null_low", "null_high"):
        assert one[key] == pytest.approx(other[key], rel=0.05)
    for mine, theirs in zip(one["layers"], other["layers"], strict=True):
        assert (mine["changed"], mine["ablated"]) == (theirs["changed"], theirs["ablated"])
        assert mine["strength"] == pytest.approx(theirs["strength"], rel=0.02)
    few = spectra.diff(*folders, per_head=True, role="attn.o", layers="0").summary
    assert "directions" not in few  # of one matrix, whatever its heads have in common


def test_an_adapter_by_head(tmp_path: Path) -> None:
    base = write_model(tmp_path / "a", model(), json.dumps(CONFIG))
    modules = {
        named(0, part).removesuffix(".weight"): SHAPES[part] for part in ("q_proj", "o_proj")
    }
    adapter = write_lora(tmp_path / "lora", modules)
    rows = {row.matrix: row for row in spectra.diff(base, adapter, per_head=True).rows}
    whole = {row.matrix: row for row in spectra.diff(base, adapter).rows}
    for part in ("q_proj", "o_proj"):
        name = named(0, part)
        square = sum(
            float(str(rows[f"{name}[head={head}]"].values["delta_norm"])) ** 2
            for head in range(QUERIES)
        )
        assert square**0.5 == pytest.approx(whole[name].values["delta_norm"], rel=1e-6)
    assert rows[f"{named(1, 'q_proj')}[head=0]"].values["head_change"] == 0.0


def test_what_cannot_be_split_is_said_or_refused(tmp_path: Path) -> None:
    weights = model()
    weights["model.layers.0.cross_attn.q_proj.weight"] = normal(30, WIDTH, 5)
    folders = [write_model(tmp_path / name, weights, json.dumps(CONFIG)) for name in ("a", "b")]
    (note,) = spectra.diff(*folders, per_head=True).summary["notes"]
    assert note == (
        "--per-head: 1 matrix of attention is not split, such as "
        "'model.layers.0.cross_attn.q_proj.weight': its 30 rows are no multiple of 4 heads."
    )
    with pytest.raises(UsageError, match="--per-head is of one TUNED, got 2"):
        spectra.diff(folders[0], folders, per_head=True)
    bare = [write_model(tmp_path / name, weights) for name in ("c", "d")]
    with pytest.raises(
        UsageError, match=r"there is no config\.json to tell how many heads it has\. Leave it out"
    ):
        spectra.diff(*bare, per_head=True)
    with pytest.raises(UsageError, match=r"nothing that is compared of .* is attention"):
        spectra.diff(*folders, per_head=True, role="mlp")


def test_two_attentions_of_one_layer_that_later_words_tell_apart(tmp_path: Path) -> None:
    weights = {
        f"decoder.block.{layer}.layer.{at}.{kind}.{part}.weight": normal(WIDTH, WIDTH, seed)
        for seed, (layer, (at, kind), part) in enumerate(
            itertools.product((0, 1), enumerate(("SelfAttention", "EncDecAttention")), "qkvo")
        )
    }
    tuned = {
        name: values + 0.1 * normal(WIDTH, WIDTH, 99) if "EncDec" in name else values
        for name, values in weights.items()
    }
    config = json.dumps({"model_type": "t5", "num_heads": 4, "d_model": WIDTH})
    folders = [
        write_model(tmp_path / name, held, config) for name, held in (("a", weights), ("b", tuned))
    ]
    summary = spectra.diff(*folders, per_head=True).summary
    assert len(summary["heads"]) == 2 * 2 * 4
    changed = {head["module"] for head in summary["heads"] if head["delta_norm"]}
    assert changed == {"decoder.block.0.layer.1", "decoder.block.1.layer.1"}
    assert "16 attention heads" in summary["reading"]
    first = summary["heads"][0]
    assert f"layer {first['layer']} head {first['head']} (" in summary["reading"]
