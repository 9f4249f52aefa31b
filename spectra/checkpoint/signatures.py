"""What a file is by its first bytes, whatever its name says."""

from typing import Final

from spectra.checkpoint.formats import (
    CONVERT,
    GGUF,
    PICKLE,
    SAFETENSORS,
    Format,
    format_named,
    refused_name,
    refused_text,
)
from spectra.checkpoint.header import MAX_HEADER, NEVER_WEIGHTS
from spectra.checkpoint.source import Source
from spectra.errors import CheckpointError
from spectra.text import quote

OPENING: Final = 64  # bytes that hold every signature but that of a tar archive
TAR: Final = (257, b"ustar")
OLD_GGML = ("a file of ggml before GGUF", "Convert it with llama.cpp, or fetch the GGUF file.")
UNPACK = "Unpack it, and give what is in it."

SIGNATURES: Final = (
    (0, b"\x89HDF\r\n\x1a\n", ("an HDF5 file, as Keras and TensorFlow write weights", CONVERT)),
    (0, b"\x93NUMPY", ("a NumPy array", CONVERT)),
    (0, b"\x1f\x8b", ("compressed (gzip)", UNPACK)),
    (0, b"\x28\xb5\x2f\xfd", ("compressed (Zstandard)", UNPACK)),
    (0, b"\xfd7zXZ\x00", ("compressed (xz)", UNPACK)),
    (0, b"BZh", ("compressed (bzip2)", UNPACK)),
    (0, b"7z\xbc\xaf\x27\x1c", ("a 7-Zip archive", UNPACK)),
    (4, b"TFL3", ("a TensorFlow Lite model", CONVERT)),
    (4, b"PTMF", ("a PyTorch Mobile model", CONVERT)),
    (4, b"ET12", ("an ExecuTorch program", CONVERT)),
    (0, b"lmgg", OLD_GGML),
    (0, b"fmgg", OLD_GGML),
    (0, b"tjgg", OLD_GGML),
    (0, b"algg", OLD_GGML),
    (0, b"\xba\x16\x4f\x2f", ("a fastText model", CONVERT)),
    (0, b"\x7fELF", ("a program of this machine (ELF)", "Give the file of weights.")),
)
"""Where bytes stand, which, and what a file is that has them and is not read."""


def kind_of(source: Source, name: str) -> Format:
    """Return the format of a file: by its first bytes, else by its name.

    Args:
        source: The file.
        name: Its own.

    Raises:
        CheckpointError: It is of a format that is not read, or of none that is known.
    """
    pattern = refused_name(name)
    opening = source.read(0, min(source.size, OPENING))
    found = _begun(opening)
    if found is not None:
        return found
    named, other = format_named(name), stranger(source)
    if other:
        raise CheckpointError(other)
    if named is None and pattern:
        raise CheckpointError(f"{source.label} is {refused_text(pattern)}")
    text = opening.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if named is not None or len(opening) < 8 or text.startswith(tuple(NEVER_WEIGHTS)):
        return named or SAFETENSORS  # whose reader says what is wrong
    if text.startswith((b"{", b"[")):
        raise CheckpointError(
            f"{source.label} is JSON text, no file of weights. Give its folder, or a file of "
            "weights."
        )
    raise CheckpointError(
        f"{source.label} is of no format that is known: it begins with {quote(opening[:8])}, "
        "expected safetensors, GGUF or a PyTorch file. Fetch it again, or give another."
    )


def stranger(source: Source) -> str:
    """Say which known format that is not read a file is of, by its first bytes; else nothing."""
    found = _other(source.read(0, min(source.size, OPENING)), source)
    if found is None:
        return ""
    what, instead = found
    return f"{source.label} is {what}, expected safetensors, GGUF or a PyTorch file. {instead}"


def readable(source: Source) -> Format | None:
    """Return the format that is read and that a file's first bytes are of; None: none."""
    return _begun(source.read(0, min(source.size, OPENING)))


def _begun(opening: bytes) -> Format | None:
    if opening.startswith(b"GGUF"):
        return GGUF
    if opening.startswith((b"PK\x03\x04", b"\x80")) and not _is_header(opening):
        return PICKLE
    return SAFETENSORS if _is_header(opening) else None


def _is_header(opening: bytes) -> bool:
    """Say whether a safetensors header begins here: its length, then an object."""
    length = int.from_bytes(opening[:8], "little")
    return opening[8:9] == b"{" and 2 <= length <= MAX_HEADER


def _other(opening: bytes, source: Source) -> tuple[str, str] | None:
    for place, magic, meaning in SIGNATURES:
        if opening[place : place + len(magic)] == magic:
            return meaning
    if _is_ctranslate2(opening):
        return "a CTranslate2 model", "Give the model that it was converted from."
    if _is_onnx(opening):
        return "an ONNX model", CONVERT
    start, magic = TAR
    if source.read(start, start + len(magic)) == magic:
        return "a tar archive", UNPACK
    return None


def _is_ctranslate2(opening: bytes) -> bool:
    """Say whether this is a version, then the name of a specification with its length.

    Source:
        CTranslate2 4.6, `python/ctranslate2/specs/model_spec.py`, `_serialize`.
    """
    version, length = int.from_bytes(opening[:4], "little"), int.from_bytes(opening[4:6], "little")
    name = opening[6 : 6 + length]
    plain = name[:-1].isascii() and name[:-1].isalnum()
    return 0 < version < 100 and 1 < length < 100 and name.endswith(b"\x00") and plain


def _is_onnx(opening: bytes) -> bool:
    """Say whether this is protobuf's field 1, the version, then a field with text or a graph.

    Source:
        ONNX 1.19, `onnx.proto`, ModelProto.
    """
    return len(opening) > 8 and opening[0] == 8 and 0 < opening[1] < 32 and opening[2] in {18, 58}
