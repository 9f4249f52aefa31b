"""One file by HTTP ranges: what is asked for, what is refused, and what a bad network does."""

import gc
import tracemalloc
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from huggingface_hub import close_session, get_session, hf_hub_url

from loopback import Loopback
from ranged import SIZE, TOKEN, filled, opened, refusal
from spectra.checkpoint.hub import remote
from spectra.checkpoint.hub.remote import RemoteFile
from spectra.errors import CheckpointError


@pytest.fixture(autouse=True)
def _files(ranged: Loopback) -> None:
    """Have the files in the hub."""


class TestRanges:
    @pytest.mark.parametrize(
        ("start", "count"),
        [(0, 8), (0, 16384), (3, 20000), (16384, 1), (200_000, 50), (SIZE - 1, 1), (0, SIZE)],
    )
    def test_are_the_files_own_bytes(
        self, hub: Loopback, content: bytes, start: int, count: int
    ) -> None:
        file = opened(hub)
        assert filled(file, start, count) == content[start : start + count]
        assert file.read(start, start + count) == content[start : start + count]
        assert file.size == SIZE

    @pytest.mark.parametrize(("start", "count"), [(SIZE - 5, 10), (SIZE, 4), (SIZE + 9, 4)])
    def test_end_where_the_file_ends(
        self, hub: Loopback, content: bytes, start: int, count: int
    ) -> None:
        assert filled(opened(hub), start, count) == content[start:]

    def test_a_file_is_opened_by_one_small_request(self, hub: Loopback) -> None:
        file = opened(hub)
        assert file.size == SIZE
        assert [r.range for r in hub.on("cdn")] == [f"bytes=0-{remote.OPENING - 1}"]
        file.read(0, remote.OPENING)
        assert len(hub.on("cdn")) == 1

    def test_no_byte_is_sent_twice(self, hub: Loopback) -> None:
        filled(opened(hub), 0, SIZE)
        assert sum(r.sent for r in hub.on("cdn")) == SIZE

    def test_a_file_smaller_than_the_first_range(self, hub: Loopback, content: bytes) -> None:
        file = opened(hub, "small.safetensors")
        assert (file.size, file.read(0, 100)) == (10, content[:10])

    def test_an_empty_file(self, hub: Loopback) -> None:
        file = opened(hub, "empty.safetensors")
        assert (file.size, file.read(0, 8), filled(file, 0, 8)) == (0, b"", b"")

    def test_an_empty_file_of_a_server_without_ranges(self, hub: Loopback) -> None:
        hub.faults.ignore_range = True
        assert opened(hub, "empty.safetensors").size == 0

    def test_a_file_that_the_hub_itself_gives(self, hub: Loopback, content: bytes) -> None:
        assert filled(opened(hub, "here.txt"), 5, 70_000) == content[5:70_005]
        assert hub.on("cdn") == []

    def test_the_body_goes_into_the_callers_memory(self, hub: Loopback, content: bytes) -> None:
        whole = bytearray(100_010)
        assert opened(hub).fill(50, memoryview(whole)[5:100_005]) == 100_000
        assert whole[5:100_005] == content[50:100_050]
        assert not any(whole[:5] + whole[100_005:])

    def test_no_second_copy_of_the_body_is_held(self, hub: Loopback, tmp_path: Path) -> None:
        size = 24 << 20
        with (tmp_path / "repo" / "large.safetensors").open("wb") as file:
            file.truncate(size)
        large, buffer = opened(hub, "large.safetensors"), memoryview(bytearray(size))
        tracemalloc.start()
        try:
            assert large.fill(0, buffer) == size
            assert tracemalloc.get_traced_memory()[1] < 4 << 20
        finally:
            tracemalloc.stop()

    def test_threads_read_at_once(self, hub: Loopback, content: bytes) -> None:
        file = opened(hub)
        starts = range(0, SIZE - 9000, 7000)
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda start: filled(file, start, 9000), starts))
        assert found == [content[start : start + 9000] for start in starts]
        assert len([r for r in hub.requests if r.range.startswith("bytes=0-")]) == 2

    def test_nothing_is_compressed_on_the_way(self, hub: Loopback) -> None:
        filled(opened(hub), 0, SIZE)
        assert {r.headers["accept-encoding"] for r in hub.requests} == {"identity"}


class TestConnections:
    def test_are_kept(self, hub: Loopback) -> None:
        file = opened(hub)
        for start in range(20_000, 200_000, 20_000):
            filled(file, start, 1000)
        for port in ("hub", "cdn"):
            assert len({r.client for r in hub.on(port)}) == 1

    def test_are_kept_from_one_file_to_the_next(self, hub: Loopback) -> None:
        for name in ("a.safetensors", "small.safetensors", "empty.safetensors", "here.txt"):
            assert opened(hub, name).size >= 0
        for port, count in (("hub", 4), ("cdn", 3)):
            assert len(hub.on(port)) == count
            assert len({r.client for r in hub.on(port)}) == 1

    def test_a_redirect_is_remembered(self, hub: Loopback) -> None:
        file = opened(hub)
        for start in (20_000, 40_000, 60_000):
            filled(file, start, 1000)
        assert len(hub.on("hub")) == 1
        assert len(hub.on("cdn")) == 4

    def test_the_token_goes_to_the_hub_and_not_to_the_cdn(self, hub: Loopback) -> None:
        hub.faults.token = TOKEN
        file = opened(hub)
        filled(file, 0, SIZE)
        hub.expire()
        filled(file, 50_000, 1000)
        assert all(r.headers["authorization"] == f"Bearer {TOKEN}" for r in hub.on("hub"))
        assert len(hub.on("hub")) == 2
        assert len(hub.on("cdn")) == 4
        assert all("authorization" not in r.headers for r in hub.on("cdn"))
        assert TOKEN not in str([(r.path, r.headers) for r in hub.on("cdn")])

    def test_the_token_does_not_come_back_from_another_host(self, hub: Loopback) -> None:
        hub.faults.redirect = hub.cdn.replace("127.0.0.1", "localhost") + "/org/name/x"
        assert "status 403" in refusal(opened(hub))
        assert all("authorization" not in r.headers for r in hub.on("cdn"))
        assert len(hub.on("cdn")) == 1

    def test_a_signed_address_that_expired_is_asked_for_anew(
        self, hub: Loopback, content: bytes
    ) -> None:
        file = opened(hub)
        assert file.size == SIZE
        hub.expire()
        assert filled(file, 100_000, 1000) == content[100_000:101_000]
        assert [r.status for r in hub.requests] == [302, 206, 403, 302, 206]

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
    def test_a_cdn_that_refuses_is_asked_anew_but_once(self, hub: Loopback, status: int) -> None:
        file = opened(hub)
        assert file.size == SIZE
        hub.forget()
        hub.faults.refuse_cdn = status
        refusal(file, 100_000, 1000)
        assert [r.status for r in hub.requests] == [status, 302, status]

    def test_redirects_in_a_circle_end(self, hub: Loopback) -> None:
        hub.faults.redirect = "/org/name/resolve/main/a.safetensors"
        assert "more than 8 redirects" in refusal(opened(hub))
        assert len(hub.requests) == 8

    @pytest.mark.parametrize(
        "place", ["ftp://127.0.0.1/x", "file:///etc/passwd", "http://h:x/", "data:,x"]
    )
    def test_a_redirect_that_is_no_web_address_is_refused(self, hub: Loopback, place: str) -> None:
        hub.faults.redirect = place
        assert "expected an https address" in refusal(opened(hub))

    def test_an_encrypted_connection_does_not_become_a_plain_one(self, hub: Loopback) -> None:
        file = opened(hub)
        with pytest.raises(CheckpointError, match="from https://hub to 'http://cdn/x'"):
            file._target("https://hub/a", "http://cdn/x?secret=1")
        assert file._target("https://hub/a", "/b") == "https://hub/b"
        assert file._target("http://hub/a", "https://cdn/b") == "https://cdn/b"

    def test_a_client_that_was_closed_is_replaced(self, hub: Loopback, content: bytes) -> None:
        client = get_session()
        clients = iter([client])
        url = hf_hub_url("org/name", "a.safetensors", endpoint=hub.hub)
        file = RemoteFile(url, "x", dict, lambda: next(clients, None) or get_session())
        close_session()
        assert filled(file, 0, 100) == content[:100]

    def test_a_client_closed_under_way_leaves_no_socket_open(
        self, hub: Loopback, content: bytes
    ) -> None:
        client = get_session()
        client.event_hooks = {"request": [lambda _: close_session()]}
        url = hf_hub_url("org/name", "a.safetensors", endpoint=hub.hub)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            clients = [client]
            file = RemoteFile(url, "x", dict, lambda: clients.pop() if clients else get_session())
            assert filled(file, 0, 100) == content[:100]
            assert client.is_closed
            del client
            gc.collect()
        assert [one for one in caught if one.category is ResourceWarning] == []


class TestLies:
    def test_a_server_that_ignores_ranges_is_left_at_once(self, hub: Loopback) -> None:
        big = hub.repositories["org/name"].commits[hub.repositories["org/name"].refs["main"]]
        with (big / "huge.safetensors").open("wb") as file:
            file.truncate(1 << 30)
        hub.faults.ignore_range = True
        text = refusal(opened(hub, "huge.safetensors"))
        assert "ignores ranges" in text
        assert "--download" in text
        assert sum(r.sent for r in hub.on("cdn")) < 64 << 20  # what the system's buffers take

    @pytest.mark.parametrize(
        ("lie", "text"),
        [
            ("start", "bytes 1 to 65 of 300,000"),
            ("length", "a body of '63' bytes"),
            ("more", "more than 64 bytes"),
            ("missing", "the Content-Range ''"),
            ("encoding", "a compressed body"),
        ],
    )
    def test_an_answer_to_another_question_is_refused(
        self, hub: Loopback, lie: str, text: str
    ) -> None:
        hub.faults.lie = lie
        assert text in refusal(opened(hub))
        assert len(hub.on("cdn")) == 1

    def test_a_size_that_changes_is_refused(self, hub: Loopback) -> None:
        file = opened(hub)
        assert file.size == SIZE
        hub.faults.lie = "total"
        assert "of 300,001" in refusal(file)

    @pytest.mark.parametrize(
        "found",
        ["", "bytes", "bytes 0-9", "bytes 0-9/*", "bytes */10", "bytes -9/10", "items 0-9/10",
         "bytes 0-9/1e3", "bytes 0-9/" + "9" * 5000, "bytes 0x0-9/10", "bytes 0-9/10\x1b"],
    )  # fmt: skip
    def test_a_content_range_that_is_none_is_refused(self, hub: Loopback, found: str) -> None:
        import httpx2  # noqa: PLC0415 - here alone

        answer = httpx2.Response(206, headers={"content-range": found})
        with pytest.raises(CheckpointError, match="the Content-Range") as caught:
            opened(hub)._span(answer)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 500
