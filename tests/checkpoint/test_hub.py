"""Repositories of the Hub: what is asked for, what the cache saves, what is refused."""

from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download
from safetensors.torch import load_file

from examples import write_model
from loopback import Loopback
from shards import BIG, FIRST, INDEX, SECOND, A, B, opened, refusal
from spectra.checkpoint import Adapter, Checkpoint, open_spec
from spectra.checkpoint.hub.repository import HubFolder

TOKEN = "hf_secretsecretsecret"  # noqa: S105 - nobody's


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def weights(hub: Loopback) -> int:
    """Return the bytes of safetensors files that were sent."""
    return hub.sent(".safetensors")


class TestTheTestHub:
    """The real client takes it for the Hub."""

    def test_for_questions(self, hub: Loopback, sharded: str) -> None:
        info = HfApi().model_info("org/name", revision="main")
        assert info.sha == sharded
        assert info.siblings is not None
        assert [s.rfilename for s in info.siblings] == ["config.json", FIRST, SECOND, INDEX]

    def test_for_a_file(self, hub: Loopback, sharded: str) -> None:
        path = hf_hub_download("org/name", FIRST)
        assert torch.equal(load_file(path)["a.weight"], BIG["a.weight"])

    def test_for_a_snapshot(self, hub: Loopback, sharded: str, tmp_path: Path) -> None:
        path = Path(snapshot_download("org/name"))
        assert path.name == sharded
        assert sorted(p.name for p in path.iterdir()) == ["config.json", FIRST, SECOND, INDEX]


class TestWhatOpens:
    def test_a_sharded_model(self, hub: Loopback, sharded: str) -> None:
        model = opened("org/name")
        assert (model.spec, model.resolved) == ("org/name", f"hf://org/name@{sharded}")
        assert model.config == {"model_type": "llama"}
        assert list(model.entries) == list(BIG)
        for name, entry in model.entries.items():
            assert torch.equal(model.read(entry), BIG[name])

    def test_headers_alone_are_fetched(self, hub: Loopback, sharded: str) -> None:
        opened("org/name")
        assert weights(hub) <= 2 * (16 << 10) + 100  # two openings and two redirects
        assert all(r.range or r.method == "HEAD" for r in hub.asked(".safetensors"))

    def test_a_slab_is_read_alone(self, hub: Loopback, sharded: str) -> None:
        model = opened("org/name")
        hub.forget()
        assert torch.equal(
            model.read(model.entries["a.weight"], (100, 110)), BIG["a.weight"][100:110]
        )
        assert weights(hub) == 10 * 300 * 4

    def test_a_repository_without_an_organisation(self, hub: Loopback, tmp_path: Path) -> None:
        commit = hub.add("gpt2", write_model(tmp_path / "m", {"a": A}))
        assert opened("hf://gpt2").resolved == f"hf://gpt2@{commit}"

    def test_one_file_of_a_repository(self, hub: Loopback, sharded: str) -> None:
        model = opened(f"org/name/{FIRST}")
        assert list(model.entries) == ["a.weight"]
        assert model.resolved == f"hf://org/name@{sharded}/{FIRST}"

    def test_a_folder_of_a_repository_and_a_file_in_it(self, hub: Loopback, tmp_path: Path) -> None:
        write_model(tmp_path / "m" / "unet", {"a": A}, '{"model_type": "unet"}')
        write_model(tmp_path / "m", {"b": B}, '{"model_type": "top"}')
        commit = hub.add("org/name", tmp_path / "m")
        for spec in ("org/name/unet", "org/name@main/unet/model.safetensors"):
            model = opened(spec)
            assert list(model.entries) == ["a"]
            assert model.config == {"model_type": "unet"}
            assert model.resolved.startswith(f"hf://org/name@{commit}/unet")
        assert list(opened("org/name").entries) == ["b"]

    def test_an_adapter(self, hub: Loopback, minilm_lora: Path) -> None:
        commit = hub.add("org/lora", minilm_lora)
        adapter, twin = open_spec("org/lora"), open_spec(minilm_lora)
        assert isinstance(adapter, Adapter)
        assert isinstance(twin, Adapter)
        assert adapter.resolved == f"hf://org/lora@{commit}"
        assert adapter.factors == twin.factors
        one = next(iter(adapter.factors.values())).a
        assert torch.equal(adapter.weights.read(one), twin.weights.read(one))

    def test_what_is_here_goes_before_the_hub(
        self, hub: Loopback, sharded: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        write_model(tmp_path / "org" / "name", {"mine": A})
        assert list(opened("org/name").entries) == ["mine"]
        assert hub.requests == []

    def test_a_repository_that_was_renamed(self, hub: Loopback, sharded: str) -> None:
        hub.faults.renamed = {"old/id": "org/name"}
        model = opened("old/id@main")
        assert torch.equal(model.read(model.entries["a.weight"]), BIG["a.weight"])
        assert model.resolved == f"hf://old/id@{sharded}"
        assert opened(model.resolved).resolved == model.resolved

    def test_a_private_repository_with_its_token(
        self, hub: Loopback, sharded: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hub.faults.token = TOKEN
        assert TOKEN not in refusal("org/name")
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        model = opened("org/name")
        assert torch.equal(model.read(model.entries["a.weight"]), BIG["a.weight"])
        assert hub.on("cdn")
        assert all("authorization" not in r.headers for r in hub.on("cdn"))


class TestTheCommit:
    def test_a_branch_a_tag_a_commit_and_a_pull_request(
        self, hub: Loopback, tmp_path: Path
    ) -> None:
        refs = ("main", "v1", "refs/pr/3")
        commits = [
            hub.add("org/name", write_model(tmp_path / str(i), {f"t{i}": A}), ref)
            for i, ref in enumerate(refs)
        ]
        for i, (ref, commit) in enumerate(zip(refs, commits, strict=True)):
            for word in (ref, commit):
                model = opened(f"org/name@{word}")
                assert list(model.entries) == [f"t{i}"]
                assert model.resolved == f"hf://org/name@{commit}"
                assert torch.equal(model.read(model.entries[f"t{i}"]), A)

    def test_reads_stay_on_it_when_the_branch_moves_on(
        self, hub: Loopback, sharded: str, tmp_path: Path
    ) -> None:
        model = opened("org/name")
        moved = write_model(tmp_path / "new", {"a.weight": A}, name=FIRST)
        later = hub.add("org/name", moved)
        hub.expire()
        assert torch.equal(model.read(model.entries["a.weight"]), BIG["a.weight"])
        assert later not in str([r.path for r in hub.requests])
        assert opened("org/name").resolved == f"hf://org/name@{later}"

    def test_it_is_asked_for_once(self, hub: Loopback, sharded: str) -> None:
        model = opened("org/name")
        for entry in model.entries.values():
            model.read(entry)
        assert [r.path for r in hub.requests if r.path.startswith("/api")] == [
            "/api/models/org/name"
        ]

    @pytest.mark.parametrize("sha", ["", "../../..", "A" * 40, "0" * 39, 7, ["0" * 40]])
    def test_a_commit_that_is_none_is_refused(
        self, hub: Loopback, sharded: str, sha: object
    ) -> None:
        hub.faults.sha = sha
        assert "as its commit, expected 40 hexadecimal digits" in refusal("org/name")


class TestTheCache:
    def test_documents_go_into_it(self, hub: Loopback, sharded: str) -> None:
        opened("org/name")
        hub.forget()
        opened("org/name")
        assert hub.asked(".json") == []

    def test_what_it_holds_is_not_fetched(self, hub: Loopback, sharded: str) -> None:
        snapshot_download("org/name")
        hub.forget()
        model = opened("org/name")
        assert torch.equal(model.read(model.entries["a.weight"]), BIG["a.weight"])
        assert [r.path for r in hub.requests] == ["/api/models/org/name"]

    def test_what_it_holds_of_another_commit_is_not_used(
        self, hub: Loopback, sharded: str, tmp_path: Path
    ) -> None:
        snapshot_download("org/name")
        hub.add("org/name", write_model(tmp_path / "new", {"a.weight": A}))
        model = opened("org/name")
        assert torch.equal(model.read(model.entries["a.weight"]), A)

    def test_a_config_of_a_gigabyte_is_never_fetched(self, hub: Loopback, tmp_path: Path) -> None:
        folder = write_model(tmp_path / "m", {"a": A})
        with (folder / "config.json").open("wb") as file:
            file.truncate(1 << 30)
        hub.add("org/name", folder)
        assert "at most 10,000,000 are read" in refusal("org/name")
        assert hub.sent("config.json") <= 16 << 10


class TestDownload:
    def test_fetches_a_file_once_its_weights_are_read(self, hub: Loopback, sharded: str) -> None:
        model = open_spec("org/name", download=True)
        assert isinstance(model, Checkpoint)
        assert weights(hub) <= 2 * (16 << 10) + 100
        for _ in range(2):
            assert torch.equal(model.read(model.entries["a.weight"]), BIG["a.weight"])
        whole = [r for r in hub.asked(".safetensors", "GET") if not r.range and r.status == 200]
        assert [r.path.partition("?")[0].rpartition("/")[2] for r in whole] == [FIRST]
        assert isinstance(constants.HF_HUB_CACHE, str)
        assert list(Path(constants.HF_HUB_CACHE).glob(f"*/snapshots/{sharded}/{FIRST}"))

    def test_and_then_makes_no_request_for_it(self, hub: Loopback, sharded: str) -> None:
        for _ in range(2):
            hub.forget()
            model = open_spec("org/name", download=True)
            assert isinstance(model, Checkpoint)
            for entry in model.entries.values():
                model.read(entry)
        assert [r.path for r in hub.requests] == ["/api/models/org/name"]

    def test_serves_where_the_server_knows_no_ranges(self, hub: Loopback, sharded: str) -> None:
        hub.faults.ignore_range = True
        assert "ignores ranges" in refusal("org/name")
        model = open_spec("org/name", download=True)
        assert isinstance(model, Checkpoint)
        assert torch.equal(model.read(model.entries["b.weight"]), BIG["b.weight"])

    def test_a_cache_that_cannot_be_written(
        self, hub: Loopback, sharded: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
        assert "cannot be fetched: Not a directory" in refusal("org/name")


class TestOffline:
    def test_the_cache_is_read_and_nobody_is_asked(
        self, hub: Loopback, sharded: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        snapshot_download("org/name")
        hub.forget()
        offline(monkeypatch)
        for spec in ("org/name", "org/name@main", f"hf://org/name@{sharded}"):
            model = opened(spec)
            assert (model.spec, model.resolved) == (spec, f"hf://org/name@{sharded}")
            assert torch.equal(model.read(model.entries["a.weight"]), BIG["a.weight"])
        assert list(opened(f"org/name/{FIRST}").entries) == ["a.weight"]
        assert hub.requests == []

    def test_a_hub_that_does_not_answer_leaves_the_cache(
        self, hub: Loopback, sharded: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        snapshot_download("org/name")
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        for spec in ("org/name", "org/name@main", f"hf://org/name@{sharded}"):
            model = opened(spec)
            assert model.resolved == f"hf://org/name@{sharded}"
            assert torch.equal(model.read(model.entries["a.weight"]), BIG["a.weight"])
            assert isinstance(model.folder, HubFolder)
            assert f"is opened from the cache, commit {sharded}" in model.folder.told
            assert "the Hub cannot be reached." in model.folder.told
            assert ("newer" in model.folder.told) == (sharded not in spec)
        assert "org/name@v2" in (text := refusal("org/name@v2"))
        assert (
            "the connection failed (ConnectError). Check the network. Of org/name@v2, the cache "
            in text
        )
        assert f"holds org/name only as org/name@{sharded}: give that." in text

    def test_so_does_one_that_is_in_trouble(self, hub: Loopback, sharded: str) -> None:
        snapshot_download("org/name")
        hub.faults.busy = [(503, {})] * 20
        model = opened("org/name")
        assert model.resolved == f"hf://org/name@{sharded}"
        assert isinstance(model.folder, HubFolder)
        assert "from the cache" in model.folder.told

    def test_but_none_that_says_no(self, hub: Loopback, sharded: str) -> None:
        snapshot_download("org/name")
        hub.faults.token = TOKEN
        assert "no repository of the Hub that you may see" in refusal("org/name")
        hub.faults.token = ""
        model = opened("org/name")
        assert isinstance(model.folder, HubFolder)
        assert model.folder.told == ""

    def test_a_tag_and_a_folder_inside(
        self, hub: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_model(tmp_path / "m" / "sub", {"a": A})
        hub.add("org/name", tmp_path / "m", "v1")
        snapshot_download("org/name", revision="v1")
        offline(monkeypatch)
        assert list(opened("org/name@v1/sub").entries) == ["a"]
        assert "no such file or folder" in refusal("org/name@v1/other")

    def test_what_the_cache_does_not_hold_is_said(
        self, hub: Loopback, sharded: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        offline(monkeypatch)
        assert "org/name is not in the cache" in refusal("org/name")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        opened("org/name")
        offline(monkeypatch)
        text = refusal("org/name@v2")
        assert text.startswith("org/name@v2 is not in the cache: the cache ")
        assert f"holds org/name only as org/name@{sharded}. HF_HUB_OFFLINE keeps" in text
        assert text.endswith("unset it, or give that.")
        for asked in (True, False):  # though the Hub says no
            monkeypatch.setattr(constants, "HF_HUB_OFFLINE", not asked)
            assert "Did you mean 'org/name'?" in refusal("org/nmae")
            assert "Did you mean" not in refusal("other/thing")
        assert f"names '{FIRST}', which is not in its folder" in refusal(f"org/name@{sharded}")

    def test_without_a_network_it_is_said_too(
        self, hub: Loopback, sharded: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened("org/name")
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        text = refusal("org/name@v2")
        assert f"holds org/name only as org/name@{sharded}: give that." in text
        assert "Nothing of that name" not in text
        assert "either. Did you mean 'org/name'? Nothing of that name" in refusal("org/nmae")
        assert refusal("other/thing").endswith("Nothing of that name is on this machine.")

    def test_a_cache_without_the_weights_is_said(
        self, hub: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        commit = hub.add("org/name", write_model(tmp_path / "m", {"a": A}, "{}"))
        opened("org/name")
        offline(monkeypatch)
        text = refusal(f"org/name@{commit}")
        assert (
            f"org/name@{commit} (in the cache alone: HF_HUB_OFFLINE is set) holds no weights"
            in text
        )

    @pytest.mark.parametrize("commit", ["../..", "..", "", "\n", "main"])
    def test_a_reference_that_leads_out_is_refused(
        self, hub: Loopback, sharded: str, monkeypatch: pytest.MonkeyPatch, commit: str
    ) -> None:
        path = Path(snapshot_download("org/name"))
        (path.parent.parent / "refs" / "main").write_text(commit)
        offline(monkeypatch)
        assert "is not in the cache" in refusal("org/name")
