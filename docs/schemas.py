"""Writes the published JSON Schemas; tests compare them with the code."""

from pathlib import Path

from spectra.policy.schema import schema_text
from spectra.report.document import result_schema_text

HERE = Path(__file__).parent

(HERE / "policy.schema.json").write_text(schema_text(), encoding="utf-8")
(HERE / "result.schema.json").write_text(result_schema_text(), encoding="utf-8")
