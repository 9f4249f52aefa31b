"""LLaMA-Factory: `lora_target`, names with commas between them that it hands to PEFT."""

import re

from spectra.errors import UsageError
from spectra.exports.export import Export, Job, notes_on, require_exact
from spectra.exports.lora import hit_by_list, lora_of
from spectra.exports.text import comments, quoted
from spectra.text import quote

_PARTS = ("text_config", "vision_config", "audio_config")
"""Settings of models of several parts, where LLaMA-Factory looks for names inside names."""

_OTHER_PART = re.compile(r"(?:^|\.)\w*(?:visi|visual|audio|projector|merger)\w*(?:\.|$)")
_ONLY_PEFT = "Use --export peft, or leave it out with --exclude."


def write(job: Job) -> Export:
    """Return the export.

    Raises:
        UsageError: A selected matrix is none of a module, or its name hits others too.
    """
    lora = lora_of(job)
    if lora.parameters:
        raise UsageError(
            f"LLaMA-Factory can name modules alone, and {quote(lora.parameters[0])} is to be "
            f"trained as a bare parameter. {_ONLY_PEFT}"
        )
    target = ",".join(lora.modules)
    asked = [name.strip() for name in target.split(",")]
    modules = job.modules
    if any(part in job.checkpoint.config for part in _PARTS):
        away = next((name for name in lora.modules if _OTHER_PART.search(name)), None)
        if away is not None:
            raise UsageError(
                f"LLaMA-Factory leaves {quote(away)} out, as it is not of the language model. "
                f"{_ONLY_PEFT}"
            )
        asked = [name for name in modules if any(one in name for one in asked)]
    require_exact("llamafactory", lora.modules, hit_by_list(asked, modules), _ONLY_PEFT)
    text = (
        "# LoRA on exactly these modules; add it to your training file.\n"
        + comments(target.told() for target in job.targets)
        + f"finetuning_type: lora\nlora_target: {quoted(target)}\n"
    )
    return Export("llamafactory", {".yaml": text}, notes_on(job.targets))
