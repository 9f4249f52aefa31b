"""PEFT: the arguments of a LoraConfig as JSON, and a Python file that makes and checks it."""

import json
from typing import Any

from spectra.architectures.table import table
from spectra.exports.export import Export, Job, notes_on, require_exact
from spectra.exports.lora import Lora, as_pattern, hit_by_list, hit_by_pattern, lora_of
from spectra.exports.text import comments, python_list
from spectra.text import counted

_PYTHON = '''"""LoRA on exactly what `spectra kappa` selected: {count}."""

from peft import LoraConfig, get_peft_model

{notes}EXPECTED = {expected}
config = LoraConfig(
    r=16,  # rank, lora_alpha, lora_dropout and the rest are yours to set
    lora_alpha=32,
{arguments}
)


def wrap(model):
    """Return the model with the adapter on exactly those; ValueError where it is on others."""
    tuned = get_peft_model(model, config)
    found = {{*tuned.base_model.targeted_module_names, *tuned.base_model.targeted_parameter_names}}
    missing = [e for e in EXPECTED if not any(f".{{name}}".endswith(f".{{e}}") for name in found)]
    if missing or len(found) != len(EXPECTED):
        raise ValueError(
            f"expected an adapter on {{len(EXPECTED)}} places, got {{len(found)}}; missing: "
            f"{{missing[:3]}}. Load the model with the class that its config.json names."
        )
    return tuned
'''


def write(job: Job) -> Export:
    """Return the export.

    Raises:
        UsageError: PEFT's rules cannot tell the selected ones from others.
    """
    lora = lora_of(job)
    arguments = _arguments(job, lora)
    text = json.dumps(arguments, indent=2) + "\n"
    require_selected(job, lora, json.loads(text))
    notes = list(notes_on(job.targets))
    if lora.parameters:
        notes.append("A LoRA on target_parameters takes no lora_dropout: leave it at 0.")
    if isinstance(arguments["target_modules"], str):
        notes.append(
            "target_modules is a pattern, as other names end with a selected one: it fits names "
            "from end to end, so load the model with the class that its config.json names."
        )
    return Export("peft", {".json": text, ".py": _snippet(job, lora, arguments)}, tuple(notes))


def require_selected(job: Job, lora: Lora, arguments: dict[str, Any]) -> None:
    """Match the arguments against all names as PEFT does.

    Raises:
        UsageError: They hit anything else than what is selected.
    """
    asked = arguments["target_modules"]
    modules = job.modules
    hit = hit_by_pattern(asked, modules) if isinstance(asked, str) else hit_by_list(asked, modules)
    require_exact("peft", lora.modules, hit)
    bare = hit_by_list(arguments.get("target_parameters", []), job.parameters)
    require_exact("peft", lora.parameters, bare)


def _arguments(job: Job, lora: Lora) -> dict[str, Any]:
    modules = job.modules
    asked: str | list[str] = list(lora.modules)
    # In these families PEFT cuts what a pattern hits down to last words: no way out there.
    if job.memory.family not in table().expert_types and len(hit_by_list(asked, modules)) > len(
        lora.modules
    ):
        asked = as_pattern(lora.modules)
    arguments: dict[str, Any] = {"target_modules": asked}
    if lora.parameters:
        arguments["target_parameters"] = list(lora.parameters)
    turned = [view.part.transposed for target in job.targets for view in target.selected]
    if lora.modules and all(turned) and not lora.parameters:
        arguments["fan_in_fan_out"] = True  # Conv1D of the GPT-2 family; PEFT warns otherwise
    return arguments


def _snippet(job: Job, lora: Lora, arguments: dict[str, Any]) -> str:
    lines = []
    for key, value in arguments.items():
        # Written out twice, a long list would leave the reader to compare the two.
        same = key == "target_modules" and value == [*lora.modules] and not lora.parameters
        given = "EXPECTED" if same else python_list(value, 4) if isinstance(value, list) else value
        lines.append(f"    {key}={given if isinstance(value, list) else ascii(given)},")
    kinds = (("module", len(lora.modules)), ("bare parameter", len(lora.parameters)))
    count = ", ".join(counted(number, word) for word, number in kinds if number)
    return _PYTHON.format(
        count=count,
        notes=comments(target.told() for target in job.targets),
        expected=python_list([*lora.modules, *lora.parameters]),
        arguments="\n".join(lines),
    )
