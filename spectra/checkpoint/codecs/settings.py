"""What config.json says of a model's quantisation; hints, checked against the tensors."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from spectra.text import quote

Blocks = tuple[int, int]  # rows and columns that share one scale

SECTIONS = ("quantization_config", "compression_config")
MLX = "quantization"
LARGEST = 1 << 31  # no real group, block or width reaches it


@dataclass(frozen=True, slots=True)
class Settings:
    """The `quantization_config`, and MLX's `quantization`; empty where there is none."""

    values: Mapping[str, Any]
    mlx: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Settings":
        """Find the settings in a config.json, at the top or in the part for text."""
        inner = config.get("text_config")
        places = (config, inner if isinstance(inner, dict) else {})
        mlx: Mapping[str, Any] = next(
            (place[MLX] for place in places if _of_mlx(place.get(MLX))), {}
        )
        for place in places:
            for section in SECTIONS:
                found = place.get(section)
                if isinstance(found, dict) and found:
                    plain = "quant_method" not in found and _of_mlx(found)
                    return cls(found, mlx or (found if plain else {}))
        return cls({}, mlx)

    @property
    def method(self) -> str:
        """The scheme's name in lower case; empty where it is not told."""
        told = self.word("quant_method", "quant_library")
        return told or ("modelopt" if self.word("quant_algo") else "")

    @property
    def label(self) -> str:
        """How a reason names the scheme."""
        method = self.method
        return (method if method.isprintable() and len(method) < 40 else quote(method)) or (
            "unknown (config.json has no quantization_config)"
        )

    def word(self, *keys: str) -> str:
        """Return the first of these settings that is a text, in lower case."""
        for key in keys:
            found = self.values.get(key)
            if isinstance(found, str) and found:
                return found.lower()
        return ""

    def number(self, key: str) -> int:
        """Return a positive whole number; 0 where there is none."""
        return _count(self.values.get(key))

    def blocks(self) -> list[Blocks]:
        """Return every size of blocks, groups included, that some weight may have."""
        found = [_pair(self.values.get("weight_block_size"))]
        for weights in self.groups():
            found.append(_pair(weights.get("block_structure")))
            size = _count(weights.get("group_size"))
            found.append((1, size) if size else None)
        return list(dict.fromkeys(pair for pair in found if pair))

    def groups(self) -> Iterator[Mapping[str, Any]]:
        """Yield what each of compressed-tensors' groups says of its weights."""
        groups = self.values.get("config_groups")
        for group in groups.values() if isinstance(groups, dict) else ():
            weights = group.get("weights") if isinstance(group, dict) else None
            if isinstance(weights, dict):
                yield weights

    def widths(self) -> list[int]:
        """Return the bits of the integer weights of compressed-tensors' groups."""
        found = [_count(weights.get("num_bits")) for weights in self.groups()
                 if weights.get("type", "int") == "int"]  # fmt: skip
        return list(dict.fromkeys(bits for bits in found if 1 <= bits <= 8))


def _of_mlx(found: Any) -> bool:  # noqa: ANN401 - any JSON value
    """Say whether these settings are MLX's: it names no method."""
    return isinstance(found, dict) and "bits" in found and "group_size" in found


def _count(found: Any) -> int:  # noqa: ANN401 - any JSON value
    return found if type(found) is int and 0 < found < LARGEST else 0


def _pair(found: Any) -> Blocks | None:  # noqa: ANN401 - any JSON value
    """Return rows and columns, written as a list or as `128x128`."""
    if isinstance(found, str):
        pieces = found.lower().split("x")
        found = [int(piece) if piece.isdecimal() and len(piece) < 10 else 0 for piece in pieces]
    if not isinstance(found, list) or len(found) != 2:
        return None
    rows, cols = map(_count, found)
    return (rows, cols) if rows and cols else None
