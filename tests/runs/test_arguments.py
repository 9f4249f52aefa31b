"""What Python gives is taken as meant, or refused in one line of Python's words."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import spectra

REFUSED: dict[str, tuple[Callable[..., object], dict[str, Any]]] = {
    "k='10' is of type str. Expected a whole number.": (spectra.diff, {"k": "10"}),
    "k=True is of type bool. Expected a whole number.": (spectra.diff, {"k": True}),
    "k=2.5 is of type float. Expected a whole number.": (spectra.diff, {"k": 2.5}),
    "epsilon='x' is of type str. Expected a number.": (spectra.diff, {"epsilon": "x"}),
    "layers='a' cannot be read at 'a'.": (spectra.spectrum, {"layers": "a"}),
    "layers=[0.5] is of type list. Expected numbers from 0": (spectra.ls, {"layers": [0.5]}),
    "include=5 is of type int. Expected a text or a list": (spectra.ls, {"include": 5}),
    "role=['attn', 5] is of type list.": (spectra.kappa, {"role": ["attn", 5]}),
    "selection='attn' is of type str. Expected a spectra.Selection": (
        spectra.kappa, {"selection": "attn"}),
    "workers='2' is of type str. Expected a whole number.": (spectra.spectrum, {"workers": "2"}),
    "device=3 is of type int. Expected 'auto', 'cpu'": (spectra.spectrum, {"device": 3}),
    "device='meta' is not known.": (spectra.spectrum, {"device": torch.device("meta")}),
    "exact='no' is of type str. Expected True or False.": (spectra.kappa, {"exact": "no"}),
    "policy=5 is of type int. Expected a path or a": (spectra.check, {"policy": 5}),
    "fail_on='x' is not known. Expected one of error, warning": (spectra.check, {"fail_on": "x"}),
    "fail_on='eror' is not known. Did you mean 'error'? Expected one of": (
        spectra.check, {"fail_on": "eror"}),
    "device='gpu' is not known. Did you mean 'cuda'? Expected auto, cpu": (
        spectra.spectrum, {"device": "gpu"}),
    "select=0.1 is no share. Did you mean select='10%'?": (spectra.kappa, {"select": 0.1}),
    "min_coverage=[1] is of type list. Expected a share": (spectra.check, {"min_coverage": [1]}),
}  # fmt: skip


@pytest.mark.parametrize("told", REFUSED)
def test_another_type_is_refused(minilm: Path, told: str) -> None:
    function, given = REFUSED[told]
    models = (minilm, minilm) if function is spectra.diff else (minilm,)
    with pytest.raises(spectra.SpectraError) as caught:
        function(*models, **given)
    assert str(caught.value).startswith(told)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("model", [None, 5, ["a", "b"]])
def test_what_is_no_model_is_refused(model: Any) -> None:  # noqa: ANN401 - what a person may give
    for function in (spectra.ls, spectra.spectrum, spectra.kappa, spectra.check):
        with pytest.raises(spectra.SpectraError, match="Expected a path, a repository of the Hub"):
            function(model)
    with pytest.raises(spectra.SpectraError, match=r"models='ab' is of type str\. Expected a list"):
        spectra.width("ab")  # type: ignore[arg-type, unused-ignore]


def test_what_libraries_call_numbers_and_devices_is_taken(minilm: Path, tmp_path: Path) -> None:
    numbers: dict[str, Any] = {
        "k": np.int64(2), "epsilon": np.float64(0.4), "workers": np.int32(1), "layers": range(1)
    }  # fmt: skip
    cpu = torch.device("cpu")
    found = spectra.diff(minilm, minilm, intruders=True, include="*query*", device=cpu, **numbers)
    assert type(found.settings["k"]) is int
    assert spectra.load(found.save(tmp_path / "d.json")).settings["epsilon"] == 0.4


def test_a_misspelt_number_is_told_and_a_null_is_none(minilm: Path) -> None:
    (row,) = spectra.kappa(minilm, layers=0, include="*query*").rows
    assert row.number("kappa") == row.values["kappa"]
    with pytest.raises(spectra.SpectraError, match=r"'kapa' is no number of this row. Did you me"):
        row.number("kapa")
    (same,) = spectra.diff(minilm, minilm, layers=0, include="*query*").rows
    assert same.number("delta_grid") is None


def test_methods_of_a_result_take_paths_and_words(minilm: Path) -> None:
    found = spectra.ls(minilm)
    for refused in (lambda: found.save(5), lambda: found.plot(5), lambda: found.export(5)):  # type: ignore[arg-type]
        with pytest.raises(spectra.SpectraError, match=r"=5 is of type int\. Expected a"):
            refused()


def test_stored_reasons_are_in_pythons_words(tmp_path: Path, minilm: Path) -> None:
    from spectra.checkpoint.unread import ALLOWED  # noqa: PLC0415 - what is told of pickles
    from spectra.wording import typed, worded  # noqa: PLC0415

    assert worded(ALLOWED) == "opened only with allow_pickle=True"
    with typed():
        assert worded(ALLOWED) == ALLOWED


def test_an_argument_of_no_such_name_is_refused_as_python_does() -> None:
    for ask in (spectra.heads, spectra.heads.plan):
        with pytest.raises(TypeError) as raised:
            ask("model", composed=True)  # type: ignore[call-arg]
        assert str(raised.value) == (
            "heads() got an unexpected keyword argument 'composed'. Did you mean 'compose'?"
        )
    with pytest.raises(TypeError, match=r"^match\(\) missing a required argument: 'second'$"):
        spectra.match("model")  # type: ignore[call-arg]
