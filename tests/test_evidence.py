"""What docs/evidence.md rests on: texts, scores, the sums of what spectra says, and the page."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel

from benchmarks.evidence.measure import accuracy, encoded, reciprocal_ranks
from benchmarks.evidence.runs import findings, shrunk
from benchmarks.evidence.summary import PAGE, RESULTS, beaten, effects, filled, numbered
from benchmarks.evidence.tune import Method, Setting, batches, probe, tune
from benchmarks.evidence.wordnet import Gloss, TextsError, parse, split
from benchmarks.tuned.pairs import Reader

LINE = (
    "02084071 05 n 03 dog 0 domestic_dog 0 Canis_familiaris 0 001 @ 02083346 n 0000 "
    '| a member of the genus Canis; occurs in many breeds; "the dog barked all night"  '
)
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "kind", "of", "tree", "moves", "slowly", "fast"]


def test_a_line_of_wordnet_is_read_without_its_examples() -> None:
    text = "a member of the genus Canis; occurs in many breeds"
    assert parse(LINE) == Gloss("dog", text, 2)
    assert parse("  1 This software and database is being provided") is None
    assert parse("00001740 03 n 01 entity 0 000 | short") is None


def dictionary(folder: Path, count: int = 40) -> Path:
    """Files as WordNet has them, with a text that comes twice."""
    for part, letter, file in (
        ("noun", "n", 5),
        ("verb", "v", 38),
        ("adj", "a", 0),
        ("adv", "r", 2),
    ):
        lines = [
            f"{i:08d} {file + i % 2:02d} {letter} 01 w_{i} 0 000 | what {part} {i % (count - 1)} is"
            for i in range(count)
        ]
        (folder / f"data.{part}").write_text("\n".join(["  1 licence", *lines]) + "\n")
    return folder


def test_no_text_is_in_two_parts_and_none_comes_twice(tmp_path: Path) -> None:
    found = split(dictionary(tmp_path), (40, 10, 20, 30))
    parts = (found.train, found.development, found.test, found.other)
    texts = [gloss.text for part in parts for gloss in part]
    assert [len(part) for part in parts] == [40, 10, 20, 30]
    assert len(set(texts)) == len(texts)
    assert {gloss.file for gloss in found.train} == {2, 3, 35, 36}
    assert all("ad" in gloss.text for gloss in found.other)
    assert split(tmp_path, (40, 10, 20, 30)) == found


def test_what_is_missing_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(TextsError, match=r"data.noun is not there. Expected WordNet's"):
        split(tmp_path, (1, 1, 1, 1))
    with pytest.raises(TextsError, match="has 78 glosses, 100 are asked for"):
        split(dictionary(tmp_path), (50, 25, 25, 1))


def test_reciprocal_ranks_are_those_of_a_sorted_list() -> None:
    generator = torch.Generator().manual_seed(0)
    queries, targets = (torch.randn(30, 5, generator=generator) for _ in range(2))
    expected = []
    for i, query in enumerate(queries):
        scores = [float(query @ one / (query.norm() * one.norm())) for one in targets]
        expected.append(1 / (1 + sorted(scores, reverse=True).index(scores[i])))
    assert reciprocal_ranks(queries, targets).tolist() == pytest.approx(expected)
    assert reciprocal_ranks(targets, 3 * targets).tolist() == [1.0] * 30


def test_a_model_that_makes_all_alike_finds_nothing() -> None:
    alike = torch.ones(20, 4)
    assert reciprocal_ranks(alike, alike).tolist() == [1 / 20] * 20


def test_accuracy_is_the_share_that_the_head_names() -> None:
    head = (torch.eye(3), torch.tensor([0.0, 0.0, 0.5]))
    features = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0.4, 0, 0], [0, 0, 1]])
    assert accuracy(features, head, torch.tensor([0, 1, 0, 2])) == 0.75


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Reader]:
    """A BERT of two layers and its tokenizer."""
    from tokenizers import Tokenizer  # noqa: PLC0415
    from tokenizers.models import WordLevel  # noqa: PLC0415
    from tokenizers.pre_tokenizers import Whitespace  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("toy")
    torch.manual_seed(0)
    settings = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=16,
    )  # fmt: skip
    BertModel(settings).save_pretrained(folder)
    ids = {word: i for i, word in enumerate(WORDS)}
    tokenizer = Tokenizer(WordLevel(ids, unk_token=WORDS[1]))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder, Reader(folder, 4)


def test_texts_come_back_in_their_order_whatever_is_read_together(
    toy: tuple[Path, Reader],
) -> None:
    folder, reader = toy
    model = BertModel.from_pretrained(folder)
    texts = ["a kind of tree", "moves", "a tree", "moves slowly fast", "kind"]
    alone = torch.cat([encoded(model, reader, [text]) for text in texts])
    assert torch.allclose(encoded(model, reader, texts), alone, atol=1e-5)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT asks for it
@pytest.mark.parametrize("rank", [2, None])
def test_two_steps_move_what_the_method_may_move(
    toy: tuple[Path, Reader], rank: int | None
) -> None:
    folder, reader = toy
    train = [Gloss("x", "a kind of tree", 0), Gloss("y", "moves slowly", 1)] * 4
    before = BertModel.from_pretrained(folder).state_dict()
    model, (weight, bias) = tune(
        BertModel.from_pretrained(folder), reader, train, Method("toy", rank, 1e-2), Setting(2, 4)
    )
    after = model.state_dict()
    assert after.keys() == before.keys()
    moved = {name for name in after if not torch.equal(after[name], before[name])}
    matrices = {n for n in before if n.startswith("encoder") and before[n].dim() == 2}
    assert len(matrices) == 12
    assert moved == matrices if rank else moved > matrices
    for name in matrices:
        found = torch.linalg.matrix_rank(after[name] - before[name], rtol=1e-3)
        assert int(found) == rank if rank else int(found) > 2
    assert weight.abs().sum() > 0
    assert bias.shape == (41,)


def test_a_head_learns_what_can_be_told_apart() -> None:
    features = torch.eye(4).repeat(8, 1)
    files = torch.arange(4).repeat(8)
    assert accuracy(features, probe(features, files, Setting(60, 8)), files) == 1.0


def test_every_row_comes_once_before_any_comes_again() -> None:
    order = torch.Generator().manual_seed(0)
    chosen = torch.cat(list(batches(12, Setting(steps=6, batch=4), order)))
    assert sorted(chosen[:12].tolist()) == sorted(chosen[12:].tolist()) == list(range(12))


def test_a_shrunk_update_is_the_share_of_every_tensor(tmp_path: Path) -> None:
    for name, value in (("base", 1.0), ("tuned", 3.0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        stored = {"w": torch.full((2, 2), value), "ids": torch.arange(2)}
        save_file(stored, tmp_path / name / "model.safetensors")
    shrunk(tmp_path / "base", tmp_path / "tuned", tmp_path / "out", 0.25)
    made = load_file(tmp_path / "out" / "model.safetensors")
    assert made["w"].tolist() == [[1.5, 1.5]] * 2
    assert made["ids"].tolist() == [0, 1]


def test_what_is_found_is_summed_over_the_encoder_alone() -> None:
    frame = pd.DataFrame({
        "matrix": ["embeddings.w", "encoder.layer.0.a", "encoder.layer.0.b"],
        "intruders": [1, 3, 0], "intruders_after": [1, 2, 0],
        "delta_norm": [9.0, 3.0, 4.0], "delta_norm_after": [9.0, 3.0, 0.0],
        "delta_relative": [0.1, 0.5, 0.5], "delta_rank": [30, 8, 6], "rank_kept": [None] * 3,
    })  # fmt: skip
    found = findings(frame)
    assert (found.intruders, found.holders, found.elsewhere, found.most) == (3, 1, 1, 3)
    assert found.delta == pytest.approx(5 / (6**2 + 8**2) ** 0.5)
    assert found.rank == 7
    after = findings(frame, "_after")
    assert (after.intruders, after.rank) == (2, None)
    assert after.delta == pytest.approx(0.3)


def rows() -> pd.DataFrame:
    """Two runs of one method, of which one forgot nothing."""
    columns = ["method", "seed", "eta", "cure", "amount", "task", "words", "others", "intruders"]
    return pd.DataFrame(
        [
            ("base", 0, None, "base", None, 0.6, 0.5, 0.5, None),
            ("lora1", 0, 0.1, "none", None, 0.8, 0.3, 0.5, 4),
            ("lora1", 1, 0.1, "none", None, 0.8, 0.4, 0.6, 2),
            ("lora1", 0, 0.1, "top", 0.5, 0.7, 0.4, 0.5, 1),
            ("lora1", 1, 0.1, "top", 0.5, 0.8, 0.35, 0.6, 0),
        ],
        columns=columns,
    )


def test_what_came_back_is_a_share_of_what_was_lost() -> None:
    found = effects(rows())
    assert found["task_moved"].tolist() == pytest.approx([-0.1, 0.0])
    assert found["words_back"].tolist() == pytest.approx([0.5, -0.5])
    assert found["others_back"].isna().all()
    assert found["had"].tolist() == [4, 2]


def test_a_cure_is_beaten_by_what_is_as_good_at_everything() -> None:
    assert beaten(rows()) == (2, 1)  # by what it is a cure of
    more = rows().iloc[[3, 4]].assign(cure="shrink", amount=0.9, task=0.8)
    assert beaten(pd.concat([rows(), more])) == (2, 2)
    assert beaten(pd.concat([rows(), more.assign(others=0.1)])) == (2, 1)


def test_several_seeds_have_a_mean_and_a_range() -> None:
    assert numbered([0.5], 1, 100) == "50.0"
    assert numbered([-0.01, 0.03], 0, 100, "+") == "+1 (\N{MINUS SIGN}1 to +3)"


def test_the_page_has_the_tables_of_the_rows() -> None:
    page = PAGE.read_text()
    assert filled(page, pd.read_csv(RESULTS / "rows.csv")) == page
