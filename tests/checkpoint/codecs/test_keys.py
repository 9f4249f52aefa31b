"""Keys of quantisation settings: those of the libraries' own classes pass, strangers refuse."""

from typing import Any

import pytest
import torch
from compressed_tensors.quantization import (
    QuantizationArgs,
    QuantizationConfig,
    QuantizationScheme,
)
from transformers import (
    AwqConfig,
    BitsAndBytesConfig,
    CompressedTensorsConfig,
    FbgemmFp8Config,
    FineGrainedFP8Config,
    GPTQConfig,
)
from transformers.utils.quantization_config import Mxfp4Config

from checkpoint.codecs.memory import codec_of, reason, stored
from spectra.checkpoint.codecs.keys import strange_key

GROUPS = {"group_0": QuantizationScheme(targets=["Linear"], weights=QuantizationArgs())}
OWN = {
    "gptq": GPTQConfig(bits=4),
    "awq": AwqConfig(),
    "bitsandbytes": BitsAndBytesConfig(load_in_4bit=True),  # type: ignore[no-untyped-call]
    "fp8": FineGrainedFP8Config(weight_block_size=(128, 128)),
    "fbgemm_fp8": FbgemmFp8Config(),
    "mxfp4": Mxfp4Config(),
    "compressed-tensors": CompressedTensorsConfig(config_groups=GROUPS),
}


@pytest.mark.parametrize("method", OWN)
def test_every_key_of_the_owning_class_is_known(method: str) -> None:
    settings = OWN[method].to_dict()
    if method == "compressed-tensors":
        settings = QuantizationConfig(config_groups=GROUPS).model_dump(mode="json")
        settings |= {"version": "0.20", "sparsity_config": {"format": "dense"}}
    on = {key: value or "on" for key, value in settings.items()}
    assert strange_key(method, on) == ""


REAL: dict[str, tuple[str, dict[str, Any]]] = {
    "AutoGPTQ 2023": ("gptq", {
        "bits": 4, "group_size": 32, "desc_act": True, "sym": False, "damp_percent": 0.01,
        "model_name_or_path": "x", "model_file_base_name": "gptq_model-4bit-32g",
        "is_marlin_format": True, "true_sequential": True, "static_groups": True}),
    "GPTQModel": ("gptq", {
        "bits": 4, "checkpoint_format": "gptq", "pack_dtype": "int32", "lm_head": True,
        "dynamic": {"-:.*mlp.*": {}}, "meta": {"quantizer": ["gptqmodel:2.0"]},
        "quant_method": "gptq"}),
    "AutoAWQ": ("awq", {"w_bit": 4, "q_group_size": 128, "version": "GEMM", "zero_point": True,
                        "do_fuse": True, "modules_to_not_convert": ["x"], "backend": "autoawq"}),
    "DeepSeek": ("fp8", {"activation_scheme": "dynamic", "fmt": "e4m3", "scale_fmt": "ue8m0",
                         "weight_block_size": [128, 128], "ignored_layers": ["x"],
                         "modules_to_not_convert": ["y"], "kv_cache_scheme": {"a": 1}}),
    "ModelOpt": ("modelopt", {
        "quant_algo": "NVFP4", "kv_cache_scheme": {"dynamic": True}, "ignore": ["lm_head"],
        "producer": {"name": "modelopt"}, "exclude_modules": ["x"], "group_size": 16,
        "kv_cache_quant_algo": "FP8", "config_groups": {"group_0": {
            "weights": {"num_bits": 4, "type": "float", "dynamic": True, "group_size": 16},
            "input_activations": {"num_bits": 4}, "targets": ["Linear"]}}}),
    "llm-compressor": ("compressed-tensors", {
        "global_compression_ratio": 1.5, "quantization_status": "compressed", "version": "0.11",
        "kv_cache_scheme": {"x": 1}, "sparsity_config": {"format": "dense"}, "ignore": ["lm_head"],
        "config_groups": {"group_0": {"format": "pack-quantized", "weights": {
            "actorder": "weight", "observer": "minmax", "observer_kwargs": {"a": 1}}}}}),
    "FBGEMM": ("fbgemm_fp8", {"activation_scale_ub": 1200.0, "modules_to_not_convert": ["x"]}),
}  # fmt: skip


@pytest.mark.parametrize("name", REAL)
def test_settings_of_real_models_are_understood(name: str) -> None:
    assert strange_key(*REAL[name]) == ""


@pytest.mark.parametrize(
    ("method", "settings", "key"),
    [
        ("gptq", {"bits": 4, "rotation": "hadamard"}, "'rotation'"),
        ("gptq", {"bits": 4, "rotation": None, "adapter": {}}, ""),
        ("bitsandbytes", {"load_in_4bit": True, "svd": 3}, "'svd'"),
        ("compressed-tensors", {"config_groups": {"0": {"weights": {"codebook": [1]}}}},
         "'codebook'"),
        ("compressed-tensors", {"config_groups": {"0": {"turn": 1, "weights": None}, "1": 3}},
         "'turn'"),
        ("compressed-tensors", {"smooth_config": {"a": 1}, "config_groups": {"0": {"turn": 1}}},
         "'smooth_config'"),
        ("hqq", {"anything": 1}, ""),
        ("", {"anything": 1}, ""),
    ],
)  # fmt: skip
def test_a_key_that_is_on_and_not_known_is_named(
    method: str, settings: dict[str, Any], key: str
) -> None:
    assert strange_key(method, settings) == key


def test_weights_under_a_strange_key_are_left_out_and_others_are_not() -> None:
    settings = {"quant_method": "fp8", "rotation_of_weights": "quarot"}
    tensors = {"a.weight": torch.ones(4, 4).to(torch.float8_e4m3fn),
               "a.weight_scale_inv": torch.ones(1, 1)}  # fmt: skip
    told = "a key of the fp8 settings is not understood: 'rotation_of_weights'"
    assert reason(tensors, quantization=settings) == told
    checkpoint = stored({**tensors, "b.weight": torch.ones(4, 4)}, quantization=settings)
    assert list(checkpoint.entries) == ["b.weight"]
    settings["rotation_of_weights"] = ""
    assert codec_of(stored(tensors, quantization=settings)) == "deepseek-fp8"
