"""Renames and fusions of names alone: against transformers' own, and what rows become."""

import re
from typing import Any

import pytest
from transformers.conversion_mapping import get_checkpoint_conversion_mapping

from spectra.architectures.renaming import Fusion, Landing, Move, Span, landings, moved
from spectra.architectures.table import table


class One:
    """What renames every tensor in the same way."""

    def __init__(self, *moves: Move) -> None:
        self.moves = moves

    def renamed(self, name: str) -> tuple[str, Fusion | None, int]:
        return moved(self.moves, name)


def move(pattern: str, targets: list[str], *operations: str) -> Move:
    """Return a move whose alternatives are split at `;`."""
    groups = "|".join(f"(?P<g{i}>{one})" for i, one in enumerate(pattern.split(";")))
    return Move(re.compile(groups), tuple(targets), operations)


FAMILIES = [
    "mixtral", "llava", "qwen2_vl", "ViTModel", "CLIPVisionModel", "timm_wrapper", "qwen3_5_text",
    "nomic_bert", "sam3_tracker",
]  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_every_move_does_to_names_what_transformers_does(family: str) -> None:
    names = [
        "model.layers.3.block_sparse_moe.experts.11.w3.weight", "visual.blocks.0.attn.qkv.weight",
        "language_model.model.layers.0.mlp.up_proj.weight", "model.embed_tokens.weight",
        "encoder.layer.0.attention.attention.query.weight", "vision_model.encoder.layers.0.k.bias",
        "encoder.layers.1.attn.Wqkv.weight", "stem.conv.weight", "timm_model.stem.conv.weight",
        "model.language_model.layers.0.x.weight", "embeddings.LayerNorm.gamma", "visual_x.weight",
        "detector_model.vision_encoder.backbone.x", "encoder.layer.0.intermediate.dense.weight",
    ]  # fmt: skip
    theirs: Any = get_checkpoint_conversion_mapping(family) or []  # type: ignore[no-untyped-call]
    ours = table().moves.get(family, ())
    assert len(theirs) == len(ours)
    for one, other in zip(ours, theirs, strict=True):
        for scope in (None, "text"):
            mine = Move(one.pattern, one.targets, one.operations, scope, "model" if scope else "")
            if scope:
                other.scope_prefix, other.base_model_prefix = scope, "model"
            for name in [*names, *(f"{before}{name}" for name in names
                                   for before in ("text.", "model.text."))]:  # fmt: skip
                new, pattern = other.rename_source_key(name)
                found = mine.matched(name)
                assert (found is None) == (pattern is None)
                if found and pattern:
                    assert found[0] == new
                    assert other.source_patterns[found[1]] == pattern


def test_experts_come_on_a_new_axis_gate_and_up_behind_it() -> None:
    fuse = move(r"experts\.[0-9]+\.gate;experts\.[0-9]+\.up", ["experts.both"],
                "MergeModulelist 0", "Concatenate 1")  # fmt: skip
    stored = {f"m.experts.{i}.{part}": (6, 4) for i in range(12) for part in ("gate", "up")}
    found, shapes = landings(stored, One(fuse))
    assert shapes == {"m.experts.both": (12, 12, 4)}
    up = Landing("m.experts.both", None, (10, 11), 10, block=(6, 12))
    gate = Landing("m.experts.both", None, (2, 3), 2, block=(0, 6))
    assert (found["m.experts.10.up"], found["m.experts.2.gate"]) == ([up], [gate])


Landings = dict[str, list[tuple[str, Span | None, Span | None]]]
ROWS: dict[str, tuple[Move, dict[str, tuple[int, ...]], Landings, dict[str, tuple[int, ...]]]] = {
    "below": (
        move("q_conv;k_conv;v_conv", ["conv"], "Concatenate 0"),
        {"q_conv": (4, 1), "k_conv": (2, 1), "v_conv": (2, 1)},
        {"q_conv": [("conv", (0, 4), (0, 4))], "k_conv": [("conv", (0, 2), (4, 6))],
         "v_conv": [("conv", (0, 2), (6, 8))]},
        {"conv": (8, 1)},
    ),
    "apart": (
        move("Wqkv", ["q_proj", "k_proj"], "Chunk 0"),
        {"a.Wqkv": (8, 3)},
        {"a.Wqkv": [("a.q_proj", (0, 4), (0, 4)), ("a.k_proj", (4, 8), (0, 4))]},
        {"a.q_proj": (4, 3), "a.k_proj": (4, 3)},
    ),
    "apart, rows in another order": (
        move("Wqkv", ["q_proj", "k_proj"], "Chunk 0", "PermuteForRope"),
        {"a.Wqkv": (8, 3)},
        {"a.Wqkv": [("a.q_proj", (0, 4), None), ("a.k_proj", (4, 8), None)]},
        {"a.q_proj": (4, 3), "a.k_proj": (4, 3)},
    ),
    "apart by sizes not known": (
        move("att", ["q", "k"], "Split 0"),
        {"att": (8, 3)},
        {"att": [("q", None, None), ("k", None, None)]},
        {"q": (8, 3), "k": (8, 3)},
    ),
    "turned behind the first axis": (
        move("up", ["up_t"], "Transpose 1 2"),
        {"up": (4, 3, 2)},
        {"up": [("up_t", (0, 4), (0, 4))]},
        {"up_t": (4, 3, 2)},
    ),
    "of an operation not known": (
        move("up", ["one", "two"], "Shuffle 0"),
        {"up": (4, 3)},
        {"up": [("one", None, None), ("two", None, None)]},
        {"one": (4, 3), "two": (4, 3)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ROWS)
def test_where_rows_come_to_lie(case: str) -> None:
    fuse, stored, expected, shapes = ROWS[case]
    found, sizes = landings(stored, One(fuse))
    assert {k: [(o.name, o.rows, o.place) for o in own] for k, own in found.items()} == expected
    assert sizes == shapes


def test_unequal_parts_are_told_by_the_model() -> None:
    fuse = move("att", ["q", "k"], "Split 0")
    found, shapes = landings({"att": (8, 3)}, One(fuse), {"q": (6, 3), "k": (2, 3)})
    assert [(one.name, one.rows, one.place) for one in found["att"]] == [
        ("q", (0, 6), (0, 6)), ("k", (6, 8), (0, 2)),
    ]  # fmt: skip
    assert shapes == {"q": (6, 3), "k": (2, 3)}


def test_renamings_all_apply_in_turn_and_one_fusion_at_most() -> None:
    moves = (
        move("^a", ["b"]),
        move("^b", ["c"]),
        move("c", ["d"], "Chunk 0"),
        move("d", ["e"], "Chunk 0"),
    )
    new, fusion, source = moved(moves, "a.weight")
    assert (new, source) == ("d.weight", 0)
    assert fusion is not None
    assert fusion.targets == ("d",)
    assert moved(moves, "x") == ("x", None, 0)
