"""Folders without weights of their own say which folders in them to give."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from examples import write_model
from loopback import Loopback
from shards import A, opened, refusal
from spectra.checkpoint import Checkpoint, open_spec
from spectra.checkpoint.damaged import open_damaged
from spectra.errors import CheckpointError


def refused(folder: Path | str) -> str:
    """Return the error's text, after checking that a damaged opening says the same."""
    text = refusal(folder)
    with pytest.raises(CheckpointError) as caught:
        open_damaged(folder)
    assert str(caught.value) == text
    return text


def write_all(folder: Path, names: Sequence[str]) -> Path:
    for name in names:
        write_model(folder / name, {"a": A}, name="diffusion_pytorch_model.safetensors")
    return folder


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x" * 20)
    return folder


class TestPipelines:
    def test_diffusers(self, tmp_path: Path) -> None:
        write_all(tmp_path, ["vae", "unet"])
        touch(
            tmp_path, "model_index.json", "scheduler/scheduler_config.json", "tokenizer/merges.txt"
        )
        assert refused(tmp_path) == (
            f"{tmp_path} is a pipeline of diffusers and holds no weights of its own; folders in it "
            f"do. Give one: {tmp_path}/unet, {tmp_path}/vae."
        )
        assert list(opened(tmp_path / "unet").entries) == ["a"]

    def test_on_the_hub(self, hub: Loopback, tmp_path: Path) -> None:
        write_all(tmp_path / "m", ["vae", "unet"])
        touch(tmp_path / "m", "model_index.json")
        hub.add("org/name", tmp_path / "m")
        text = refused("org/name@main")
        assert text == (
            "org/name@main is a pipeline of diffusers and holds no weights of its own; folders in "
            "it do. Give one: org/name@main/unet, org/name@main/vae."
        )
        assert list(opened("org/name@main/unet").entries) == ["a"]


class TestRuns:
    def test_checkpoints_in_the_order_of_their_steps(self, tmp_path: Path) -> None:
        write_all(tmp_path, ["checkpoint-1000", "checkpoint-500", "checkpoint-90"])
        assert refused(tmp_path).endswith(
            f"Give one: {tmp_path}/checkpoint-90, {tmp_path}/checkpoint-500, "
            f"{tmp_path}/checkpoint-1000."
        )

    def test_many(self, tmp_path: Path) -> None:
        write_all(tmp_path, [f"checkpoint-{step}" for step in range(1, 13)])
        assert refused(tmp_path).endswith("checkpoint-8, ... (12 in all).")

    def test_adapters(self, tmp_path: Path) -> None:
        touch(tmp_path, "mine/adapter_config.json", "mine/adapter_model.bin")
        assert refused(tmp_path).endswith(f"folders in it do. Give one: {tmp_path}/mine.")

    def test_fsdp(self, tmp_path: Path) -> None:
        touch(tmp_path, "pytorch_model_fsdp_0/.metadata", "pytorch_model_fsdp_0/__0_0.distcp")
        touch(tmp_path, "optimizer_0/.metadata", "optimizer_0/__0_0.distcp", "scheduler.bin")
        inner = f"{tmp_path}/pytorch_model_fsdp_0"
        assert refused(tmp_path) == (
            f"{tmp_path} holds no weights of its own. {inner} holds a torch distributed "
            "checkpoint, which is not read. Convert it first: `python -m torch.distributed."
            f"checkpoint.format_utils dcp_to_torch {inner} x.pt`."
        )

    @pytest.mark.filterwarnings("ignore")
    def test_the_advice_for_a_distributed_checkpoint_works(self, tmp_path: Path) -> None:
        from torch.distributed.checkpoint.format_utils import (  # noqa: PLC0415 - slow
            dcp_to_torch_save,
        )
        from torch.distributed.checkpoint.state_dict_saver import save  # noqa: PLC0415

        save({"a": A}, checkpoint_id=tmp_path / "run" / "weights")
        assert "holds a torch distributed checkpoint" in refused(tmp_path / "run")
        dcp_to_torch_save(tmp_path / "run" / "weights", tmp_path / "x.pt")
        found = open_spec(tmp_path / "x.pt", allow_pickle=True)
        assert isinstance(found, Checkpoint)
        assert torch.equal(found.read(found.entries["a"]), A)

    @pytest.mark.parametrize(
        "file", ["zero_pp_rank_0_mp_rank_00_model_states.pt", "bf16_zero_pp_rank_0_optim_states.pt"]
    )
    def test_deepspeed(self, tmp_path: Path, file: str) -> None:
        touch(tmp_path, "latest", "zero_to_fp32.py", f"global_step500/{file}")
        assert refused(tmp_path) == (
            f"{tmp_path} is a checkpoint of DeepSpeed and holds no weights of its own. "
            f"{tmp_path}/global_step500 holds partitions of DeepSpeed ZeRO, which is not read. "
            f"Put them together: `python {tmp_path}/zero_to_fp32.py {tmp_path} OUT`, and give OUT."
        )
        assert "holds partitions of DeepSpeed ZeRO" in refused(tmp_path / "global_step500")

    def test_a_run_with_one_of_each(self, tmp_path: Path) -> None:
        write_all(tmp_path, ["checkpoint-500"])
        touch(tmp_path, "checkpoint-1000/global_step1000/zero_pp_rank_0_mp_rank_00_model_states.pt")
        text = refused(tmp_path)
        assert f"Give one: {tmp_path}/checkpoint-500. " in text
        assert (
            f"`python {tmp_path}/checkpoint-1000/zero_to_fp32.py {tmp_path}/checkpoint-1000" in text
        )


class TestNoRoot:
    def test_a_folder_that_nobody_may_look_into(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_all(tmp_path, ["a", "b"])
        listed = Path.iterdir

        def refused_a(path: Path) -> Iterator[Path]:
            if path.name == "a":
                raise PermissionError(13, "Permission denied")
            return listed(path)

        monkeypatch.setattr(Path, "iterdir", refused_a)
        assert refusal(tmp_path).endswith(f"Give one: {tmp_path}/b.")

    def test_folders_without_weights(self, tmp_path: Path) -> None:
        touch(tmp_path, "src/a.py", ".git/x.safetensors")
        assert "holds no weights. Expected model.safetensors" in refused(tmp_path)

    def test_weights_of_its_own_go_first(self, tmp_path: Path) -> None:
        write_all(tmp_path, ["checkpoint-500"])
        write_model(tmp_path, {"own": A})
        assert list(opened(tmp_path).entries) == ["own"]

    def test_parts_without_their_index(self, tmp_path: Path) -> None:
        for number in (1, 2, 4):
            write_model(tmp_path, {"a": A}, name=f"model-0000{number}-of-00004.safetensors")
        text = refused(tmp_path)
        assert "holds 3 of 4 parts of a model and no index ('model-00001-of-00004" in text
        assert "Fetch the index (NAME.index.json) again, or give one part" in text
