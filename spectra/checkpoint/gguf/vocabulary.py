"""The tokens that a GGUF file names, which headers are otherwise read past."""

from spectra.checkpoint.gguf.header import TOKENIZER_KIND, check_opening
from spectra.checkpoint.gguf.reader import ARRAY, GgufReader
from spectra.checkpoint.source import Source

TOKENS = "tokenizer.ggml.tokens"


def read_tokens(source: Source) -> tuple[str, list[bytes]]:
    """Return the kind of tokenizer that a file tells, and its tokens in the order of their rows.

    Args:
        source: The file, or the first of several.

    Returns:
        `gpt2`, `llama`, `bert` and the like, empty where it tells none; and no tokens where it has
        none.

    Raises:
        CheckpointError: The file is not GGUF, is cut, or breaks a rule.
    """
    reader = GgufReader(source)
    check_opening(reader, source)
    reader.count("<Q")
    kind, tokens = "", list[bytes]()
    for _ in range(reader.count("<Q")):
        key, form = reader.key(), reader.count("<I")
        if key == TOKENS and form == ARRAY:
            tokens = reader.texts()
        else:
            value = reader.value(form, keep=key == TOKENIZER_KIND)
            kind = value if isinstance(value, str) else kind
        if kind and tokens:
            break
    return kind, tokens
