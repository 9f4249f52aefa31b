"""Keys of quantisation settings that are understood, or change no value that is stored."""

from collections.abc import Mapping
from typing import Any

from spectra.text import quote

LAYERS = """
modules_to_not_convert ignored_layers ignore exclude_modules modules_to_convert quantized_layers
modules_in_block_to_quantize block_name_to_quantize module_name_preceding_first_block lm_head
llm_int8_skip_modules dynamic extra_config quant_method quant_library
"""
"""Which layers are quantised: the tensors tell."""

ACTIVATIONS = """
activation_scheme activation_scale_ub kv_cache_scheme kv_cache_quant_algo kv_cache_quant_method
input_activations output_activations activation act_type use_dynamic_activation
"""
"""How activations and caches are rounded where the model runs."""

ORIGIN = """
version quant_algo producer provider meta quantizer dtype torch_dtype backend compute_dtype
model_name_or_path model_file_base_name checkpoint_file base_model_name_or_path library
quantization_status global_compression_ratio run_compressed dequantize use_optimized_inference
kernel_config use_marlin use_exllama disable_exllama exllama_config use_cuda_fp16 max_input_length
model_seqlen batch_size pad_token_id cache_block_outputs tokenizer dataset uri telemetry device
offload_to_disk offload_to_disk_path pack_impl pack_dtype
"""
"""Who wrote it, with what and for which code."""

_COMMON = frozenset((LAYERS + ACTIVATIONS + ORIGIN).split())

_GPTQ = """
bits group_size desc_act sym damp_percent damp_auto_increment true_sequential static_groups
is_marlin_format checkpoint_format format method act_group_aware mse gptaq foem hessian fallback
failsafe fail_safe smooth smoother preprocessors gc_mode auto_forward_data_parallel
wait_for_submodule_finalizers calibration_data_device compute_device_filter vram_strategy
dense_vram_strategy moe_vram_strategy dense_vram_strategy_devices moe_vram_strategy_devices moe
mock_quantization v2 v2_alpha v2_memory_device hyb_act iters nsamples seqlen low_gpu_mem_usage
enable_minmax_tuning enable_quanted_input lr minmax_lr scale_dtype data_type autoround_version
to_quant_block_names quant_block_list layer_config packing_format act_bits act_group_size act_sym
act_dynamic act_data_type supported_types
amp enable_norm_bias_tuning gradient_accumulate_steps not_use_best_mse train_bs
"""
_AWQ = """
bits w_bit group_size q_group_size zero_point checkpoint_format format do_fuse fuse_max_seq_len
modules_to_fuse method n_parallel_calib_samples max_calib_samples max_calib_seq_len apply_clip
duo_scaling export_compatible scale_search_chunked_activations
"""
_FP8 = """
weight_block_size fmt scale_fmt expert_dtype quant_dtype is_scale_transposed linear_impl
kv_cache_dtype scale_dtype
"""
_GROUPS = "config_groups format targets weights"
_WEIGHTS = """
num_bits type symmetric group_size strategy block_structure dynamic actorder scale_dtype zp_dtype
observer observer_kwargs is_mx block_size
"""

_OWN = {
    "gptq": _GPTQ,
    "awq": f"{_AWQ} {_GPTQ}",
    "fp8": _FP8,
    "mxfp8": _FP8,
    "mxfp4": "",
    "fbgemm_fp8": "",
    "modelopt": f"{_FP8} {_GROUPS} group_size has_zero_point pre_quant_scale smoothquant_val "
    "awq_block_size quantization block_size",
    "compressed-tensors": f"{_GROUPS} transform_config sparsity_config moe_sparsity_config",
    "metal": "bits group_size",
}
_KNOWN = {method: _COMMON | frozenset(keys.split()) for method, keys in _OWN.items()}
_GROUP_KEYS = frozenset((_GROUPS + ACTIVATIONS).split())
_WEIGHT_KEYS = frozenset(_WEIGHTS.split())
_STARTS = ("bnb_4bit_", "llm_int8_", "load_in_", "_load_in_")


def strange_key(method: str, settings: Mapping[str, Any]) -> str:
    """Return the first key that is not understood and may change what values mean.

    A key that is off (null, false, 0 or empty) changes nothing.

    Args:
        method: The scheme's name.
        settings: The `quantization_config`, or what stands for it.

    Returns:
        The key, quoted; empty where there is none, or the scheme is not read anyway.
    """
    if method == "bitsandbytes":
        keys = [key for key in settings if not key.startswith(_STARTS) and key not in _COMMON]
        return _first(settings, keys)
    if method not in _KNOWN:
        return ""
    found = _first(settings, [key for key in settings if key not in _KNOWN[method]])
    groups = settings.get("config_groups")
    for group in groups.values() if isinstance(groups, dict) else ():
        if found or not isinstance(group, dict):
            break
        found = _first(group, [key for key in group if key not in _GROUP_KEYS])
        weights = group.get("weights")
        if not found and isinstance(weights, dict):
            found = _first(weights, [key for key in weights if key not in _WEIGHT_KEYS])
    return found


def _first(settings: Mapping[str, Any], keys: list[str]) -> str:
    return next((quote(key) for key in keys if settings[key]), "")
