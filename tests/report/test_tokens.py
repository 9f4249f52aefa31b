"""Tokens as texts: cut where they are long, and in their order whatever they are written in."""

import pytest

from spectra.report.tokens import block, words


@pytest.mark.parametrize(("token", "told"), [
    ("a" * 20, "a" * 13 + "…"), ("short", "short"), (" two  spaces", "␣two␣␣spaces"),
    ("twelve chars\u200d", "twelve␣chars…"), ("eleven char\u200dand", "eleven␣char…"),
    ("ten chars!\u200d", "ten␣chars!…"), ("one\u200d", "one\\u200d"),
    ("ninechars\x1band more", "ninechars\\x1b…"),
])  # fmt: skip
def test_long_tokens_are_cut_before_what_stands_for_a_character(token: str, told: str) -> None:
    assert words([{"token": token}]) == told


def test_on_a_page_what_is_written_from_the_right_stands_apart() -> None:
    tokens = [{"id": at, "token": token, "weight": 1.0}
              for at, token in enumerate(["one", "שבת", "بيت", "日本"])]  # fmt: skip
    reading = {"of": "ov", "does": "writes", "tied": False, "index": 0,
               "highest": tokens, "lowest": tokens[:1]}  # fmt: skip
    ((_, high, low),) = block({"tokens_status": "ok", "tokens": [reading]})
    assert high == "one \u2068שבת\u2069 \u2068بيت\u2069 日本"
    assert low == "one"
    assert words(tokens) == "one שבת بيت"
