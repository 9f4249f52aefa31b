"""`python -m benchmarks.families [FAMILY ...]`: what exports make of each; all write a table.

All together take some minutes on one core.
"""

import json
import logging
import sys
import tempfile
from pathlib import Path

import transformers as hf

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from benchmarks.families.outcome import FORMS, Outcome, outcome
from benchmarks.families.page import PATH, page
from families import build, model_types


def main() -> None:
    """Judge families, print what is wrong, and write the table where it is of all."""
    hf.utils.logging.set_verbosity_error()
    hf.utils.logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    wanted = sys.argv[1:] or model_types()
    found, unbuilt = [], {}
    for family in wanted:
        try:
            model = build(family)
        except Exception as error:  # noqa: BLE001 - what cannot be built here
            unbuilt[family] = " ".join(str(error).split())[:120]
            continue
        found.append(one(family, model))
        told = found[-1]
        print(json.dumps([family, told.model, told.accounted, told.forms]), flush=True)
    if not sys.argv[1:]:
        PATH.write_text(page(found, unbuilt), encoding="utf-8")


def one(family: str, model: object) -> Outcome:
    """Judge one family in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return outcome(family, model, Path(folder) / "model")
        except Exception as error:  # noqa: BLE001 - a family that transformers does not load again
            text = " ".join(str(error).replace(f"{folder}/", "").split())
            told = f"not loaded again: {type(error).__name__}: {text[:120]}"
            return Outcome(family, type(model).__name__, "", dict.fromkeys(FORMS, told))


if __name__ == "__main__":
    main()
