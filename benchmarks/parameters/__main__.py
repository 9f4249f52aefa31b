"""Write spectra/architectures/parameters.json; without types all of them, about half an hour.

`PYTHONPATH=tests python -m benchmarks.parameters [TYPE...]`; what is there of other types stays.
"""

import json
import sys
from pathlib import Path

import transformers

from benchmarks.parameters.document import written
from benchmarks.parameters.family import causal, entries, types

TABLE = Path("spectra/architectures/parameters.json")


def main() -> None:
    known = json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.exists() else {}
    classes = dict(known.get("classes", {})) if sys.argv[1:] else {}
    for model_type in sys.argv[1:] or types():
        found = entries(model_type)
        print(model_type, " ".join(found) or "-", flush=True)
        classes |= {name: entry for name, entry in found.items()
                    if classes.get(name, entry)["type"] == model_type}  # fmt: skip
        TABLE.write_text(written(transformers.__version__, causal(classes), classes), "utf-8")


main()
