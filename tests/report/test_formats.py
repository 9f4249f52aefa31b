"""Files: every parser reads them, and they hold what the result holds."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

import spectra
from examples import write_model
from spectra.errors import OutputError
from spectra.report import formats


@pytest.fixture
def result(tmp_path: Path) -> spectra.Result:
    bad = torch.ones(4, 4)
    bad[0, 0] = float("nan")
    folder = write_model(
        tmp_path, {"a.weight": torch.eye(4), "b.weight": bad, "c.weight": torch.ones(4, 4)}
    )
    return spectra.spectrum(folder)


def test_json_holds_no_nan_and_no_infinity(result: spectra.Result) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(name)

    rows = json.loads(formats.to_text(result.document(), "json"), parse_constant=refuse)["rows"]
    assert [row["status"] for row in rows] == ["ok", "non-finite", "singular"]
    assert rows[2]["kappa"] is None
    assert rows[1]["sigma_max"] is None


def test_numbers_are_not_rounded(result: spectra.Result) -> None:
    rows = json.loads(formats.to_text(result.document(), "json"))["rows"]
    assert rows[0]["effective_rank"] == result.rows[0].values["effective_rank"]


def test_a_csv_has_one_header_and_empty_cells_where_there_is_no_number(
    result: spectra.Result,
) -> None:
    lines = formats.to_text(result.document(), "csv").splitlines()
    assert lines[0].startswith(
        "tensor,matrix,role,layer,expert,rows,cols,dtype,codec,status,error,"
    )
    assert len(lines) == 4
    assert "NaN" not in lines[2].split("[0, 0]")[1]


def test_parquet_is_no_text(result: spectra.Result) -> None:
    with pytest.raises(OutputError, match=r"Write it to a file: \.save\('FILE\.parquet'\)"):
        formats.to_text(result.document(), "parquet")


def test_what_is_nested_is_json_in_cells_whatever_command_it_is_of(
    result: spectra.Result, tmp_path: Path
) -> None:
    document = {**result.document(), "command": "of another package"}
    parts = [{"a": 1}, {}, None]
    document["rows"] = [
        {**row, "parts": part, "even": [1.5], "empty": []}
        for row, part in zip(document["rows"], parts, strict=True)
    ]
    formats.write_result(document, tmp_path / "x.parquet")
    formats.write_result(document, tmp_path / "x.csv")
    for frame in (pd.read_parquet(tmp_path / "x.parquet"), pd.read_csv(tmp_path / "x.csv")):
        assert list(frame["parts"][:2]) == ['{"a": 1}', "{}"]
        assert list(frame["empty"]) == ["[]"] * 3
    assert list(pd.read_parquet(tmp_path / "x.parquet")["even"][0]) == [1.5]


def test_a_missing_parquet_writer_is_said_early(
    result: spectra.Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(OutputError, match=r"pip install pyarrow"):
        formats.format_of(tmp_path / "x.parquet")
    with pytest.raises(OutputError, match="pyarrow"):
        formats.require_values_suffix(tmp_path / "x.parquet")
