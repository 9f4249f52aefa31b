"""One file by HTTP ranges over a network that breaks, from a server that is busy or refuses."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace

import pytest
from huggingface_hub import get_session, hf_hub_url

from loopback import Loopback
from ranged import SIZE, TOKEN, filled, opened, refusal
from spectra.checkpoint.hub import answers, remote
from spectra.checkpoint.hub.remote import RemoteFile


@pytest.fixture(autouse=True)
def _files(ranged: Loopback) -> None:
    """Have the files in the hub."""


class TestABadNetwork:
    @pytest.fixture
    def waits(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        """The seconds that were slept, or would have been."""
        slept: list[float] = []
        monkeypatch.setattr(answers, "WAIT", 1.0)
        monkeypatch.setattr("spectra.checkpoint.hub.answers.time.sleep", slept.append)
        return slept

    def test_a_range_that_is_cut_goes_on_where_it_broke(
        self, hub: Loopback, content: bytes
    ) -> None:
        file = opened(hub)
        assert file.size == SIZE
        hub.forget()
        hub.faults.cut, hub.faults.cuts = 100_000, 1
        assert filled(file, 20_000, 250_000) == content[20_000:270_000]
        first, second = hub.on("cdn")
        start = int(second.range.removeprefix("bytes=").partition("-")[0])
        assert first.range == "bytes=20000-269999"
        assert 20_000 < start <= 120_000
        assert second.range == f"bytes={start}-269999"
        assert second.sent == 270_000 - start

    def test_a_range_that_is_cut_again_and_again_arrives_while_it_goes_on(
        self, hub: Loopback, content: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(answers, "PROGRESS", 10_000)
        hub.faults.cut = 20_000
        assert filled(opened(hub), 0, SIZE) == content
        assert len(hub.on("cdn")) > 10

    def test_a_range_that_never_goes_on_is_given_up(
        self, hub: Loopback, waits: list[float]
    ) -> None:
        file = opened(hub)
        assert file.size == SIZE
        hub.forget()
        hub.faults.cut = 100
        text = refusal(file, 20_000, 250_000)
        assert "the connection failed (RemoteProtocolError), 5 times in a row" in text
        assert len(hub.on("cdn")) == 5
        assert waits == [1, 2, 4, 8]

    def test_a_body_without_a_length_that_ends_early(
        self, hub: Loopback, waits: list[float]
    ) -> None:
        hub.faults.lie = "few"
        assert "RemoteProtocolError" in refusal(opened(hub, "small.safetensors"))

    def test_a_silent_server_does_not_hold_us_for_ever(
        self, hub: Loopback, waits: list[float], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(remote, "TIMEOUT", 0.1)
        hub.faults.silent = 99
        assert "nothing came for 30 s, 5 times in a row" in refusal(opened(hub))
        assert len(hub.requests) == 5

    def test_a_server_that_was_silent_once_is_asked_again(
        self, hub: Loopback, content: bytes, waits: list[float], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(remote, "TIMEOUT", 0.2)
        hub.faults.silent = 1
        assert filled(opened(hub), 0, 100) == content[:100]

    def test_a_hub_that_is_not_there(self, waits: list[float]) -> None:
        file = RemoteFile("http://127.0.0.1:9/x", "org/name/x", dict, get_session)
        assert "the connection failed (ConnectError)" in refusal(file)

    @pytest.mark.parametrize("port", ["hub", "cdn"])
    @pytest.mark.parametrize("status", [429, 500, 503])
    def test_a_busy_server_is_asked_again_when_it_says(
        self, hub: Loopback, content: bytes, waits: list[float], status: int, port: str
    ) -> None:
        hub.faults.busy_on = port
        hub.faults.busy = [(status, {"Retry-After": "7"}), (status, {})]
        assert filled(opened(hub), 0, 100) == content[:100]
        assert waits == [7, 2]

    def test_a_rate_limit_that_stays(self, hub: Loopback, waits: list[float]) -> None:
        hub.faults.busy = [(429, {"RateLimit": '"resolvers";r=0;t=30'})] * 9
        text = refusal(opened(hub))
        assert "the rate limit is reached (status 429), 5 times in a row" in text
        assert "hf auth login" in text
        assert waits == [30] * 4

    def test_a_long_wait_is_told_now_and_then(
        self, hub: Loopback, content: bytes, caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        clock = [1000.0]
        monkeypatch.setattr(answers, "_waits", answers.Waits())
        monkeypatch.setattr(answers, "time", SimpleNamespace(
            monotonic=lambda: clock[0], sleep=lambda seconds: clock.append(clock.pop() + seconds),
        ))  # fmt: skip
        file = opened(hub)
        hub.faults.busy = [(429, {"Retry-After": "4"})]
        assert filled(file, 0, 100) == content[:100]
        assert caplog.messages == []
        hub.faults.busy = [(429, {"Retry-After": "70"}), (503, {"Retry-After": "2"})]
        assert filled(file, 100, 100) == content[100:200]
        assert clock == [1076.0]
        why = f"{file.label}: the rate limit is reached (status 429); trying again in"
        assert caplog.messages == [f"{why} 70 s.", f"{why} 40 s.", f"{why} 10 s."]
        assert {one.name for one in caplog.records} == {"spectra"}

    def test_a_wait_that_is_too_long_is_not_waited(self, hub: Loopback, waits: list[float]) -> None:
        hub.faults.busy = [(503, {"Retry-After": "3600"})]
        assert "the server asks to wait 3,600 s" in refusal(opened(hub))
        assert waits == []

    @pytest.mark.parametrize(
        ("text", "low", "high"),
        [
            ("12", 12, 12),
            (" 0 ", 0, 0),
            ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
            ("Wed, 21 Oct 2015 07:28:00", 0, 0),
        ],
        ids=["seconds", "now", "date gone by", "date without a zone"],
    )
    def test_retry_after_is_seconds_or_a_date(self, text: str, low: float, high: float) -> None:
        found = answers._retry_after(text)
        assert found is not None
        assert low <= found <= high

    def test_retry_after_may_be_a_date_to_come(self) -> None:
        text = format_datetime(datetime.now(UTC) + timedelta(seconds=900), usegmt=True)
        found = answers._retry_after(text)
        assert found is not None
        assert 700 <= found <= 900

    @pytest.mark.parametrize("text", ["", "soon", "-5", "1.5", "1e9", "Wed, 99 Foo 2015"])
    def test_a_retry_after_that_is_none_is_passed_over(self, text: str) -> None:
        assert answers._retry_after(text) is None


class TestRefusals:
    def test_a_file_that_is_not_there(self, hub: Loopback) -> None:
        assert "no such file" in refusal(opened(hub, "gone.safetensors"))

    def test_a_gated_repository(self, hub: Loopback) -> None:
        hub.faults.gated = True
        assert "gated. Accept its terms" in refusal(opened(hub))

    def test_another_token(self, hub: Loopback) -> None:
        hub.faults.token = TOKEN[::-1]
        assert "no repository of the Hub that you may see" in refusal(opened(hub))

    def test_a_token_that_is_no_word_is_not_quoted(self, hub: Loopback) -> None:
        url = hf_hub_url("org/name", "a.safetensors", endpoint=hub.hub)
        headers = {"authorization": f"Bearer {TOKEN}\n"}
        text = refusal(RemoteFile(url, "org/name", lambda: headers, get_session))
        assert "HF_TOKEN is one plain word" in text
        assert hub.requests == []

    def test_a_status_that_nobody_expects(self, hub: Loopback) -> None:
        hub.faults.busy = [(418, {})]
        assert "the server answered with status 418" in refusal(opened(hub))
