"""What the Hub refuses, what is said when it fails, and names that mean harm."""

import json
from pathlib import Path

import httpx2
import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from examples import write_model
from loopback import Loopback
from shards import BIG, INDEX, SECOND, A, opened, refusal, write_shards
from spectra.checkpoint.hub.answers import asked
from spectra.checkpoint.hub.repository import open_hub
from spectra.errors import CheckpointError

TOKEN = "hf_secretsecretsecret"  # noqa: S105 - nobody's


def answered(status: int, code: str = "") -> HfHubHTTPError:
    """Return the real client's error for an answer."""
    request = httpx2.Request("GET", f"https://huggingface.co/api/models/x?token={TOKEN}")
    headers = {"X-Error-Code": code} if code else {}
    return HfHubHTTPError(
        f"two\nlines {TOKEN}", response=httpx2.Response(status, headers=headers, request=request)
    )


class TestRefusals:
    def test_no_such_repository(self, hub: Loopback) -> None:
        assert "no repository of the Hub that you may see" in refusal("org/none")

    def test_no_such_revision(self, hub: Loopback, sharded: str) -> None:
        assert "has no such revision" in refusal("org/name@v9")

    def test_no_such_path(self, hub: Loopback, sharded: str) -> None:
        assert "no such file or folder" in refusal("org/name/none.gguf")

    def test_no_weights(self, hub: Loopback, tmp_path: Path) -> None:
        (tmp_path / "m").mkdir()
        (tmp_path / "m" / "README.md").write_text("nothing")
        hub.add("org/name", tmp_path / "m")
        assert "org/name holds no weights" in refusal("org/name")

    def test_a_shard_that_is_missing(self, hub: Loopback, tmp_path: Path) -> None:
        folder = write_shards(tmp_path / "m")
        (folder / SECOND).unlink()
        hub.add("org/name", folder)
        assert f"names '{SECOND}', which is not in its folder" in refusal("org/name")

    def test_a_gated_repository(
        self, hub: Loopback, sharded: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hub.faults.gated = True
        assert "gated. Accept its terms" in refusal("org/name")
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        text = refusal("org/name")
        assert "gated. Accept its terms" in text
        assert TOKEN not in text

    def test_a_token_that_the_hub_does_not_know(
        self, hub: Loopback, sharded: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        message = "Invalid credentials in Authorization header"
        hub.faults.busy = [(401, {"X-Error-Message": message})]
        assert "does not know your token" in refusal("org/name")

    @pytest.mark.parametrize("token", ["hf_ä", "hf_\x00"])
    def test_a_token_that_no_header_can_hold_is_not_quoted(
        self, hub: Loopback, sharded: str, token: str, tmp_path: Path
    ) -> None:
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / "token").write_text(token, "utf-8")
        text = refusal("org/name")
        assert "HF_TOKEN is one plain word" in text
        assert token not in text

    def test_no_network(self, hub: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        text = refusal("org/name")
        assert "the connection failed (ConnectError)" in text
        assert text.endswith("Nothing of that name is on this machine.")
        assert "Check the network. It is not in the cache" in text

    def test_no_network_once_it_was_opened(self, hub: Loopback, sharded: str) -> None:
        model = opened("org/name")
        hub.faults.cut = 0
        with pytest.raises(CheckpointError, match="5 times in a row"):
            model.read(model.entries["a.weight"])

    def test_a_rate_limit_that_ends(self, hub: Loopback, sharded: str) -> None:
        hub.faults.busy = [(429, {"Retry-After": "0"}), (503, {})]
        assert list(opened("org/name").entries) == list(BIG)

    def test_a_rate_limit_that_does_not(self, hub: Loopback, sharded: str) -> None:
        hub.faults.busy = [(429, {"Retry-After": "0"})] * 50
        text = refusal("org/name")
        assert "the rate limit is reached (status 429), 5 times in a row" in text

    def test_a_server_error(self, hub: Loopback, sharded: str) -> None:
        hub.faults.busy = [(500, {})] * 50
        assert "the server has trouble (status 500), 5 times in a row" in refusal("org/name")

    def test_a_server_that_is_silent(
        self, hub: Loopback, sharded: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("spectra.checkpoint.hub.repository.TIMEOUT", 0.1)
        hub.faults.silent = 50
        assert "nothing came for" in refusal("org/name")

    @pytest.mark.parametrize(
        "body",
        ["", "<html>", "[]", "null", "{}", '{"id": "x", "siblings": [{}]}', '{"siblings": 7}'],
    )
    def test_an_answer_of_no_hub(
        self, hub: Loopback, body: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def answer(*_: object, **__: object) -> httpx2.Response:
            request = httpx2.Request("GET", "http://127.0.0.1/api/models/org/name")
            return httpx2.Response(200, text=body, request=request)

        monkeypatch.setattr(httpx2.Client, "get", answer)
        assert "Check HF_ENDPOINT" in refusal("org/name")


class TestTheHubsOwnClient:
    """Its errors, as it raises them after tries of its own."""

    @pytest.mark.parametrize(
        ("cause", "text"),
        [
            (httpx2.ReadTimeout("no"), "nothing came for 30 s"),
            (httpx2.ConnectError("no"), "the connection failed (ConnectError)"),
            (answered(503), "the server has trouble (status 503)"),
            (answered(403), "may not be read (status 403)"),
            (answered(404, "EntryNotFound"), "no such file"),
            (answered(401, "RepoNotFound"), "no repository of the Hub that you may see"),
            (OSError(28, "No space left on device", "/x"), "No space left on device (/x)"),
            (OSError("Consistency check failed"), "makes no sense (OSError)"),
        ],
    )
    @pytest.mark.parametrize("hidden", [False, True])
    def test_is_said_in_one_line(self, cause: Exception, text: str, hidden: bool) -> None:
        calls = []

        def fail() -> None:
            calls.append(1)
            if hidden:
                raise LocalEntryNotFoundError("check your connection") from cause
            raise cause

        with pytest.raises(CheckpointError) as caught:
            asked("org/name", fail, again=False)
        assert text in str(caught.value)
        assert str(caught.value).isprintable()
        assert str(caught.value).endswith(".")
        assert calls == [1]


class TestHostileNames:
    @pytest.mark.parametrize(
        "name",
        ["../model.safetensors", "/etc/x.safetensors", "a/../model.safetensors", "a//b.safetensors",
         "x\x1b[31m.safetensors", "x\n.safetensors", "..\\x.safetensors", "C:x.safetensors", "..",
         ".", "", "./x.safetensors", 7, None, "a\x00.safetensors"],
    )  # fmt: skip
    def test_that_the_hub_lists_are_passed_over(
        self, hub: Loopback, tmp_path: Path, name: object
    ) -> None:
        hub.add("org/name", write_model(tmp_path / "m", {"a": A}))
        hub.faults.listed = [name]
        folder, _ = open_hub("org/name", download=False)
        assert folder.names() == ["model.safetensors"]
        assert list(opened("org/name").entries) == ["a"]

    def test_a_file_that_is_not_listed_is_not_asked_for(self, hub: Loopback, sharded: str) -> None:
        folder, _ = open_hub("org/name", download=False)
        hub.forget()
        with pytest.raises(CheckpointError, match="no such file"):
            folder.file("other.safetensors")
        assert hub.requests == []

    def test_an_index_cannot_reach_another_repository(self, hub: Loopback, tmp_path: Path) -> None:
        folder = write_shards(tmp_path / "m")
        index = {"weight_map": {"a": "../../other/model.safetensors"}}
        (folder / INDEX).write_text(json.dumps(index))
        hub.add("org/name", folder)
        assert "no file name inside its folder" in refusal("org/name")

    def test_names_that_need_escapes_in_an_address(self, hub: Loopback, tmp_path: Path) -> None:
        name = "a b#c?d%2e+é&.safetensors"
        hub.add("org/name", write_model(tmp_path / "m", {"a": A}, name=name))
        model = opened("org/name")
        assert torch.equal(model.read(model.entries["a"]), A)
