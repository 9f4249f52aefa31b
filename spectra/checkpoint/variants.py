"""Variants of a model's weights in one folder, told by the names of transformers and diffusers.

Source:
    transformers 5.23, `modeling_utils._add_variant`; diffusers 0.35, `pipeline_loading_utils.
    variant_compatible_siblings`, its older names among them.
"""

import re
from typing import Final

STEMS: Final = ("model", "pytorch_model", "diffusion_pytorch_model")
"""Of the names in which a word between dots is a variant; in others it may be a size."""

_PART = r"-\d{5}-of-\d{5}"
_ENDING = r"\.(?:safetensors|bin)"
_WORD = r"(?!(?:index|safetensors|bin)\b)[A-Za-z0-9][\w-]*?"


def _names(stem: str, word: str) -> re.Pattern[str]:
    return re.compile(
        rf"(?P<stem>{stem})(?:"
        rf"\.(?P<whole>{word})(?P<part>{_PART})?(?P<ending>{_ENDING}(?:\.index\.json)?)"
        rf"|(?P<old_part>{_PART})\.(?P<old>{word})(?P<old_ending>{_ENDING})"
        rf"|(?P<index>{_ENDING}\.index)\.(?P<new>{word})\.json)"
    )


_KNOWN = _names("|".join(STEMS), _WORD)


def split_variant(name: str, given: str = "") -> tuple[str, str]:
    """Return a file's name without its variant, and the variant; empty where it has none.

    Args:
        name: Such as `model.fp16.safetensors` or `model.safetensors.index.fp16.json`.
        given: A variant that is looked for, whatever the name begins with.
    """
    found = (_names(".+?", re.escape(given)) if given else _KNOWN).fullmatch(name)
    if found is None:
        return name, ""
    stem = found["stem"]
    if found["new"]:
        return f"{stem}{found['index']}.json", found["new"]
    if found["old"]:
        return f"{stem}{found['old_part']}{found['old_ending']}", found["old"]
    return f"{stem}{found['part'] or ''}{found['ending']}", found["whole"]
