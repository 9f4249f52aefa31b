"""What modules of an adapter are called by others: with underscores, behind parts, in GGUF."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType

from spectra.checkpoint import Checkpoint
from spectra.checkpoint.adapter.bare import PARTS
from spectra.checkpoint.adapter.ggml import facts_of
from spectra.checkpoint.adapter.mlx import mlx_name
from spectra.checkpoint.gguf.codec import Order, gguf_library
from spectra.checkpoint.gguf.facts import TYPES, Facts
from spectra.checkpoint.gguf.names import Place, model_name
from spectra.checkpoint.gguf.restore import restored
from spectra.errors import AdapterError, UsageError
from spectra.lowrank.experts import exps, switched
from spectra.matrices.role import kind_of
from spectra.text import counted, endings, guess, quote, shown
from spectra.words import VOCABULARY
from spectra.work.planning.placing import FLAT
from spectra.work.planning.stacks import RENAMED
from spectra.writing.coat import Coat
from spectra.writing.coats import Gguf, coat_of

PART_OF = {
    "unet": "unet", "te": "text_encoder", "te1": "text_encoder", "te2": "text_encoder_2",
    "te3": "text_encoder_3", "transformer": "transformer", "prior": "prior",
    "prior_unet": "unet", "prior_te": "text_encoder",
}  # fmt: skip
"""Parts of a pipeline as diffusers calls them, by kohya's words."""

KOHYA = {
    "unet": "unet", "text_encoder": "te1", "text_encoder_2": "te2", "text_encoder_3": "te3",
    "transformer": "transformer", "prior": "prior",
}  # fmt: skip
SPELLED = {"gguf": "GGUF"}
UNET = re.compile(r"(?:down_blocks|up_blocks|mid_block|input_blocks|output_blocks|middle_block)\.")
TRANSFORMER = re.compile(r"(?:single_)?transformer_blocks\.|(?:double|single|joint)_blocks\.")
SAME = {
    "mistral": "llama", "mixtral": "llama", "qwen2_moe": "qwen2moe", "qwen3_moe": "qwen3moe",
    "deepseek_v2": "deepseek2", "ernie4_5_moe": "ernie4_5-moe", "llama4_text": "llama4",
}  # fmt: skip
"""Words of config.json, of which GGUF has another that `TYPES` does not tell."""


UNSURE = ("transformer.", "gpt_neox.")
LOOKED_UP = frozenset({"position_embd", "token_types", "per_layer_token_embd"})
HEADLESS = frozenset({"t5encoder", "gemma-embedding"})
"""Architectures that compute no scores of tokens; others without a head take the embedding."""

TORN = ("kv_b_proj", "kv_b_proj.weight")
TEARING = frozenset({"deepseek_v3", "deepseek_v32", "glm4_moe_lite", "mistral4", "longcat_flash"})
"""Families of which mlx-lm has no such layer."""


@dataclass(frozen=True, slots=True)
class Name:
    """A module: as its base calls it, and of which part of a pipeline it is."""

    module: str  # with dots; as kohya writes it where `flat`
    part: str = ""
    flat: bool = False
    stack: str = ""  # gate, up or down of each expert: others than PEFT hold it by itself
    layer: int = -1  # of a stack


@dataclass(frozen=True, slots=True)
class Home:
    """What a module is called in the file, and how its rows and columns lie there."""

    name: str
    rows: Order | None = None
    columns: Order | None = None


def name_of(key: str, naming: str) -> Name:
    """Return a module's name, told from what an adapter calls it."""
    if naming == "flat":
        found = FLAT.fullmatch(key)
        return Name(key, PART_OF.get(found["part"] or "", "") if found else "", flat=True)
    part = PARTS.match(key) if naming == "parts" else None
    return Name(key[part.end() :], part["part"]) if part else Name(key)


@dataclass(frozen=True, slots=True)
class Naming:
    """How an adapter is to be written: in which coat, as which part, of which base."""

    to: str = "peft"
    part: str = ""
    base: Checkpoint | None = None

    @property
    def coat(self) -> Coat:
        """The coat.

        Raises:
            UsageError: There is none of that name, or GGUF has no word for the base.
        """
        found = coat_of(self.to)
        return replace(found, architecture=self._gguf()) if isinstance(found, Gguf) else found

    def homes(
        self, names: Mapping[str, Name], shapes: Mapping[str, tuple[int, int]]
    ) -> dict[str, Home]:
        """Return what modules are called.

        Args:
            names: By whatever tells them apart.
            shapes: Rows and columns of each.

        Raises:
            UsageError: A part is not known, or there are several.
            AdapterError: GGUF has no name for one.
        """
        found, lost = self.told(names, shapes)
        if lost:
            key = next(iter(lost))
            raise AdapterError(
                f"{len(lost):,} of {counted(len(names), 'module')} cannot be written as "
                f"{SPELLED.get(self.to, self.to)}, e.g. {quote(names[key].module)}: {lost[key]}. "
                "Expected --to peft, or the merged model, which `spectra lowrank repair BASE "
                "ADAPTER` writes with --merged and --scale 1."
            )
        return found

    def told(
        self, names: Mapping[str, Name], shapes: Mapping[str, tuple[int, int]]
    ) -> tuple[dict[str, Home], dict[str, str]]:
        """Return what modules are called, and why others cannot be.

        Args:
            names: By whatever tells them apart.
            shapes: Rows and columns of each.

        Raises:
            UsageError: A part is not known, or there are several.
        """
        coat_of(self.to)
        if self.to == "gguf":
            return self._in_gguf(self._of_one_part(names), shapes)
        if self.to == "mlx":
            return self._in_mlx(self._of_one_part(names))
        return self._plain(names), {}

    def _in_mlx(self, names: Mapping[str, Name]) -> tuple[dict[str, Home], dict[str, str]]:
        family = None if self.base is None else self.base.config.get("model_type")
        if self.base is None:
            _require_family(names)
        found = {
            key: Home(mlx_name(family, one.module)) for key, one in names.items() if not one.stack
        }
        lost: dict[str, str] = {}
        for key in [key for key in found if key.endswith(TORN) and family in TEARING]:
            lost[key] = "mlx-lm takes it apart into a layer for each head"
            del found[key]
        for key, one in names.items():
            if one.stack and (name := switched(family, one.layer, one.stack)):
                found[key] = Home(name)
            elif one.stack:
                lost[key] = f"where mlx-lm has the experts of {quote(family)} is not known"
        return found, lost

    def _plain(self, names: Mapping[str, Name]) -> dict[str, Home]:
        if self.to == "peft":
            return {key: Home(one.module) for key, one in self._of_one_part(names).items()}
        _require_part(self.to, self.part)
        parts = {key: self._part(one) for key, one in names.items()}
        several = "text_encoder_2" in parts.values()
        found = {}
        for key, one in names.items():
            part = parts[key]
            if self.to == "diffusers":
                found[key] = Home(f"{part}.{one.module}")
            elif one.flat:
                found[key] = Home(one.module)
            else:
                word = KOHYA.get(part, part)
                word = "te" if word == "te1" and not several else word
                found[key] = Home(f"lora_{word}_{one.module.replace('.', '_')}")
        return found

    def _part(self, one: Name) -> str:
        """Return the part of a pipeline that a module is of.

        Raises:
            UsageError: It is not known.
        """
        if one.part or one.flat:
            return one.part
        if self.part:
            return self.part
        if UNET.match(one.module):
            return "unet"
        if TRANSFORMER.match(one.module):
            return "transformer"
        if one.module.startswith("text_model."):
            return "text_encoder"
        raise UsageError(
            f"{self.to} names modules by the part of a pipeline that they are in, and which one "
            f"has {quote(one.module)} is not told. Expected --part and its name, such as unet, "
            "transformer or text_encoder."
        )

    def _of_one_part(self, names: Mapping[str, Name]) -> Mapping[str, Name]:
        parts = dict.fromkeys(one.part for one in names.values())
        if len(parts) > 1:
            raise UsageError(
                f"the adapter is of several parts of a pipeline ({', '.join(parts)}), and --to "
                f"{self.to} is of one. Expected --part and one of them."
            )
        return names

    def _gguf(self) -> str:
        """Return GGUF's word for the base's family.

        Raises:
            UsageError: There is no base, or no word.
        """
        if self.base is None:
            raise UsageError(
                "GGUF needs the base's config.json, for names and the order of rows. Expected "
                "--base."
            )
        kind = self.base.config.get("model_type")
        known = {*_library().MODEL_ARCH_NAMES.values()}
        others = {word: own for own, word in TYPES.items()}
        tried = [others.get(str(kind)), SAME.get(str(kind)), str(kind),
                 str(kind).replace("_", ""), str(kind).replace("_", "-")]  # fmt: skip
        found = next((word for word in tried if word in known), None)
        if found is None:
            raise UsageError(
                f"GGUF has no word for the family {quote(kind)} of {shown(self.base.spec)}. "
                "Expected another --to."
            )
        return found

    def _in_gguf(
        self, names: Mapping[str, Name], shapes: Mapping[str, tuple[int, int]]
    ) -> tuple[dict[str, Home], dict[str, str]]:
        word = self._gguf()
        assert self.base is not None  # noqa: S101 - or it had been refused
        facts = facts_of(word, self.base.config)
        library = _library()
        words = {own: key for key, own in library.MODEL_ARCH_NAMES.items()}
        layers = int(facts.number("block_count")) or 4096
        table = library.get_tensor_name_map(words[word], layers)
        gated = any(".wi_1." in name for name in self.base.entries)
        headed = any(kind_of(name) == VOCABULARY[1] for name in self.base.entries)
        found: dict[str, Home] = {}
        lost: dict[str, str] = {}
        for key, one in names.items():
            if one.stack:
                if stem := exps(word, one.layer, one.stack):
                    found[key] = Home(stem)
                else:
                    lost[key] = f"GGUF's {word} has no experts"
                continue
            home = _gguf_home(table, word, one.module, shapes[key], facts, gated=gated)
            why = home if isinstance(home, str) else _unapplied(home.name, word, headed=headed)
            if isinstance(home, str) or why:
                lost[key] = why
            else:
                found[key] = home
        return found, lost


def _require_part(to: str, part: str) -> None:
    """Refuse a part of a pipeline by which no name could be read again.

    Raises:
        UsageError: It is none.
    """
    flat = FLAT.fullmatch(f"lora_{KOHYA.get(part, part)}_module")
    known = flat is not None and bool(flat["part"]) and flat["rest"] == "module"
    if to == "diffusers":
        known = PARTS.fullmatch(f"{part}.") is not None
    if part and not known:
        raise UsageError(
            f"--part {quote(part)} is no part of a pipeline that {to} names. Expected one of "
            f"{', '.join(KOHYA)}.{guess(part, KOHYA)}"
        )


def _library() -> ModuleType:
    return gguf_library()


def _require_family(names: Mapping[str, Name]) -> None:
    """Refuse names that mlx-lm has for some families and not for others.

    Raises:
        UsageError: There are some.
    """
    if one := next((own.module for own in names.values() if own.module.startswith(UNSURE)), ""):
        raise UsageError(
            f"what mlx-lm calls {quote(one)} hangs on the family of the base. Expected --base."
        )


def _unapplied(name: str, word: str, *, headed: bool) -> str:
    """Say why llama.cpp applies no factors of a tensor that GGUF has a name for; empty: it does.

    Args:
        name: In GGUF.
        word: GGUF's for the family.
        headed: The base stores an output head.

    Source:
        llama.cpp, `llm_graph_context::build_inp_embd` and `build_lora_mm`; `load_arch_tensors` of
        every model, which takes the embedding where there is no head.
    """
    stem = Place.of(name).stem
    if stem in LOOKED_UP:
        return "llama.cpp looks its rows up without any LoRA"
    if headed or stem not in ("token_embd", "output") or "bert" in word or word in HEADLESS:
        return ""
    if stem == "output":
        return "the base stores no head of its own, and llama.cpp takes the embedding for it"
    return "the base stores no head of its own, and llama.cpp stops where its embedding has a LoRA"


def _gguf_home(
    table: object, word: str, module: str, shape: tuple[int, int], facts: Facts, *, gated: bool
) -> Home | str:
    """Return what GGUF calls a weight, and how its rows lie there; or why it cannot be told."""
    tried: Sequence[str] = (module, f"model.{module}", *endings(module),
                            module.replace(*RENAMED[::-1]))  # fmt: skip
    for name in tried:
        stem = table.get_name(name)  # type: ignore[attr-defined]
        place = Place.of(f"{stem}.weight") if stem else None
        if place is None or model_name(word, place, gated=gated) != f"{name}.weight":
            continue
        if place.stem == "token_embd":
            return Home(f"{stem}.weight")
        back = restored(place, shape, facts)
        if isinstance(back, str):
            return back
        # Of a Conv1D the file holds [outputs, inputs], as B A is in PEFT too.
        if back.shape != (shape[::-1] if back.transposed else shape):
            return "GGUF holds it in another shape"
        return Home(f"{stem}.weight", back.rows, back.columns)
    return f"GGUF's {word} has no name for it alone"
