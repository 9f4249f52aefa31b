import pytest

from spectra.policy.finding import OF_THE_MODEL, REQUIRED, Finding, fingerprint


def finding(**given: object) -> Finding:
    plain = {"rule": "SPC201", "name": "n", "severity": "error", "message": "m"}
    return Finding.read(plain | given, "release")


def test_what_an_older_document_lacks_has_its_default() -> None:
    found = finding(matrix="h.0.q", role=None, of_a_later_version=1)
    assert found.fingerprint == fingerprint("SPC201", "h.0.q", "release")
    assert (found.place, found.role, found.state, found.reason) == ("", None, None, None)
    assert finding(fingerprint="0" * 16).fingerprint == "0" * 16


@pytest.mark.parametrize("key", REQUIRED)
def test_what_every_document_has_must_be_there(key: str) -> None:
    plain = finding().plain()
    del plain[key]
    with pytest.raises(KeyError, match=key):
        Finding.read(plain)


def test_one_that_is_accepted_tells_why_and_no_other() -> None:
    assert not finding().plain().keys() & {"reason", "until"}
    accepted = finding(reason="known").plain()
    assert list(accepted)[-2:] == ["reason", "until"]
    assert (accepted["reason"], accepted["until"]) == ("known", None)


def test_the_worst_comes_first_the_gone_last() -> None:
    states = (None, "new", "unchanged", "gone")
    words = ("error", "warning", "note", "critical")  # the last of another version
    found = [finding(severity=word, state=state) for word in words for state in reversed(states)]
    told = [(one.state, one.severity) for one in sorted(found, key=lambda one: one.order)]
    assert told[:8] == [(state, word) for word in words for state in ("new", None)]
    assert told[8:] == [(state, word) for state in ("unchanged", "gone") for word in words]
    assert finding(severity="critical").level == "note"


def test_its_place_is_told_once() -> None:
    found = finding(matrix="w", message="w: is zero")
    assert (found.where, found.what, found.told) == ("w", "is zero", "w: is zero")
    found = finding(file="a.bin", message="ends early")
    assert (found.where, found.what, found.told) == ("a.bin", "ends early", "a.bin: ends early")
    assert finding().where == OF_THE_MODEL
