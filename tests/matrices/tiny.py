"""Tiny random models of many families, built by transformers itself."""

from collections.abc import Mapping
from typing import Any

import torch
import transformers as hf
from torch import nn

Settings = Mapping[str, Any]

SIZES = {
    "vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 48, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GROUPED = {**SIZES, "num_key_value_heads": 2, "head_dim": 8}
GPT = {"vocab_size": 40, "n_positions": 16, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 48}
BLOOM = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
MOSAIC = {"vocab_size": 40, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 16}
VISION = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 48, "image_size": 8, "patch_size": 4,
}  # fmt: skip
QWEN_VISION = {
    "depth": 2, "hidden_size": 32, "num_heads": 4, "intermediate_size": 48, "out_hidden_size": 32,
}  # fmt: skip
EXPERTS = {"num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 20}
LATENT = {
    **SIZES, "kv_lora_rank": 16, "qk_rope_head_dim": 4, "qk_nope_head_dim": 6, "v_head_dim": 8,
    "n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2,
    "first_k_dense_replace": 1, "moe_intermediate_size": 20, "num_key_value_heads": 4,
}  # fmt: skip
FLAT_ROUTING = {"n_group": 1, "topk_group": 1}
COMPRESSED = LATENT | FLAT_ROUTING | {"q_lora_rank": 12}
DELTA = {
    **GROUPED, **EXPERTS, "shared_expert_intermediate_size": 24,
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 6,
    "linear_value_head_dim": 8, "layer_types": ["linear_attention", "full_attention"],
}  # fmt: skip
LLAMA4 = {
    "text_config": {
        **GROUPED, "intermediate_size": 20, "intermediate_size_mlp": 48, "num_local_experts": 3,
        "interleave_moe_layer_step": 1,
    },
    "vision_config": {
        **VISION, "vision_output_dim": 32, "projector_input_dim": 32, "projector_output_dim": 32,
    },
}  # fmt: skip
GEMMA4 = {
    **GROUPED, "global_head_dim": 8, "enable_moe_block": True, "num_experts": 3,
    "top_k_experts": 2, "moe_intermediate_size": 20, "hidden_size_per_layer_input": 0,
}  # fmt: skip
DBRX = {
    **MOSAIC, "attn_config": {"kv_n_heads": 2, "clip_qkv": 1e6},
    "ffn_config": {"hidden_size": 32, "ffn_hidden_size": 20, "moe_num_experts": 3, "moe_top_k": 2},
}  # fmt: skip

MODELS: Mapping[str, tuple[str, str, Settings]] = {
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", GPT | {"add_cross_attention": True}),
    "imagegpt": ("ImageGPTForCausalImageModeling", "ImageGPTConfig", GPT),
    "openai-gpt": ("OpenAIGPTLMHeadModel", "OpenAIGPTConfig", GPT),
    "starcoder": ("GPTBigCodeForCausalLM", "GPTBigCodeConfig", GPT),
    "starcoder-mha": ("GPTBigCodeForCausalLM", "GPTBigCodeConfig", GPT | {"multi_query": False}),
    "codegen": ("CodeGenForCausalLM", "CodeGenConfig", GPT | {"rotary_dim": 4}),
    "gpt-neox": ("GPTNeoXForCausalLM", "GPTNeoXConfig", SIZES),
    "bloom": ("BloomForCausalLM", "BloomConfig", BLOOM),
    "falcon-mha": ("FalconForCausalLM", "FalconConfig", BLOOM | {"multi_query": False}),
    "falcon-mqa": ("FalconForCausalLM", "FalconConfig", BLOOM | {"multi_query": True}),
    "falcon-new": (
        "FalconForCausalLM", "FalconConfig",
        BLOOM | {"new_decoder_architecture": True, "num_kv_heads": 2},
    ),
    "persimmon": ("PersimmonForCausalLM", "PersimmonConfig", SIZES | {"qk_layernorm": False}),
    "mpt": ("MptForCausalLM", "MptConfig", MOSAIC),
    "dbrx": ("DbrxForCausalLM", "DbrxConfig", DBRX),
    "bert": ("BertForMaskedLM", "BertConfig", SIZES),
    "deberta": (
        "DebertaForMaskedLM", "DebertaConfig",
        SIZES | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    ),
    "modernbert": ("ModernBertForMaskedLM", "ModernBertConfig", SIZES),
    "nomic": ("NomicBertModel", "NomicBertConfig", SIZES),
    "llama": ("LlamaForCausalLM", "LlamaConfig", GROUPED),
    "phi3": ("Phi3ForCausalLM", "Phi3Config", GROUPED),
    "glm4": ("Glm4ForCausalLM", "Glm4Config", GROUPED),
    "t5": (
        "T5ForConditionalGeneration", "T5Config",
        {"vocab_size": 40, "d_model": 32, "d_kv": 6, "d_ff": 48, "num_layers": 2, "num_heads": 4,
         "feed_forward_proj": "gated-gelu"},
    ),
    "vit": ("ViTForImageClassification", "ViTConfig", VISION),
    "dinov2": ("Dinov2Model", "Dinov2Config", VISION | {"use_swiglu_ffn": True}),
    "siglip": ("SiglipModel", "SiglipConfig", {"text_config": SIZES, "vision_config": VISION}),
    "gemma3": (
        "Gemma3ForConditionalGeneration", "Gemma3Config",
        {"text_config": GROUPED, "vision_config": VISION | {"hidden_size": 24}},
    ),
    "vit-gpt2": (
        "VisionEncoderDecoderModel", "VisionEncoderDecoderConfig",
        {"encoder": VISION | {"model_type": "vit"},
         "decoder": GPT | {"model_type": "gpt2", "add_cross_attention": True}},
    ),
    "mixtral": ("MixtralForCausalLM", "MixtralConfig", GROUPED | {"num_local_experts": 3}),
    "qwen3-moe": ("Qwen3MoeForCausalLM", "Qwen3MoeConfig", GROUPED | EXPERTS),
    "deepseek-v2": ("DeepseekV2ForCausalLM", "DeepseekV2Config", LATENT | {"q_lora_rank": None}),
    "deepseek-v3": ("DeepseekV3ForCausalLM", "DeepseekV3Config", COMPRESSED),
    "deepseek-v3.2": ("DeepseekV32ForCausalLM", "DeepseekV32Config", COMPRESSED),
    "glm4-moe-lite": ("Glm4MoeLiteForCausalLM", "Glm4MoeLiteConfig", COMPRESSED),
    "glm4-moe": (
        "Glm4MoeForCausalLM", "Glm4MoeConfig",
        GROUPED | EXPERTS | FLAT_ROUTING | {"n_routed_experts": 3, "n_shared_experts": 1,
                   "first_k_dense_replace": 1},
    ),
    "dots1": (
        "Dots1ForCausalLM", "Dots1Config",
        GROUPED | EXPERTS | FLAT_ROUTING | {"n_routed_experts": 3, "n_shared_experts": 1,
                   "first_k_dense_replace": 1},
    ),
    "ernie4.5-moe": (
        "Ernie4_5_MoeForCausalLM", "Ernie4_5_MoeConfig",
        SIZES | {"moe_num_experts": 3, "moe_k": 2, "moe_intermediate_size": 20},
    ),
    "hunyuan-moe": ("HunYuanMoEV1ForCausalLM", "HunYuanMoEV1Config", GROUPED | {"num_experts": 3}),
    "jamba": (
        "JambaForCausalLM", "JambaConfig",
        GROUPED | {"num_experts": 3, "use_mamba_kernels": False, "attn_layer_period": 2,
                   "attn_layer_offset": 1},
    ),
    "lfm2-moe": (
        "Lfm2MoeForCausalLM", "Lfm2MoeConfig",
        GROUPED | EXPERTS | {"num_dense_layers": 1, "layer_types": ["conv", "full_attention"]},
    ),
    "minimax": (
        "MiniMaxForCausalLM", "MiniMaxConfig",
        GROUPED | {"num_local_experts": 3, "layer_types": ["linear_attention", "full_attention"]},
    ),
    "minimax-m2": ("MiniMaxM2ForCausalLM", "MiniMaxM2Config", GROUPED | {"num_local_experts": 3}),
    "olmoe": ("OlmoeForCausalLM", "OlmoeConfig", GROUPED | EXPERTS),
    "phi3.5-moe": ("PhimoeForCausalLM", "PhimoeConfig", GROUPED | {"num_local_experts": 3}),
    "qwen2-moe": (
        "Qwen2MoeForCausalLM", "Qwen2MoeConfig",
        GROUPED | EXPERTS | {"shared_expert_intermediate_size": 24},
    ),
    "gemma4": ("Gemma4ForCausalLM", "Gemma4TextConfig", GEMMA4),
    "granite-moe": (
        "GraniteMoeSharedForCausalLM", "GraniteMoeSharedConfig",
        SIZES | {"num_local_experts": 3, "shared_intermediate_size": 24},
    ),
    "aria": ("AriaTextForCausalLM", "AriaTextConfig", GROUPED | {"moe_num_experts": 3}),
    "llama4": ("Llama4ForConditionalGeneration", "Llama4Config", LLAMA4),
    "gpt-oss": (
        "GptOssForCausalLM", "GptOssConfig",
        GROUPED | {"intermediate_size": 20, "num_local_experts": 3, "num_experts_per_tok": 2},
    ),
    "qwen3-next": ("Qwen3NextForCausalLM", "Qwen3NextConfig", DELTA),
    "qwen3.5-moe": (
        "Qwen3_5MoeForConditionalGeneration", "Qwen3_5MoeConfig",
        {"text_config": DELTA, "vision_config": QWEN_VISION},
    ),
    "qwen2.5-vl": (
        "Qwen2_5_VLForConditionalGeneration", "Qwen2_5_VLConfig",
        {"text_config": GROUPED, "vision_config": QWEN_VISION},
    ),
    "qwen3-vl-moe": (
        "Qwen3VLMoeForConditionalGeneration", "Qwen3VLMoeConfig",
        {"text_config": GROUPED | EXPERTS,
         "vision_config": QWEN_VISION | {"deepstack_visual_indexes": [0]}},
    ),
}  # fmt: skip


def build(family: str) -> nn.Module:
    """Return a tiny model of one family, every weight random, every bias zero.

    Without biases `y = W x` holds for each of its projections as it stands.
    """
    model_class, config_class, settings = MODELS[family]
    config = getattr(hf, config_class)(**settings)
    if family == "dbrx":  # transformers 5.23 reads a setting that its own config has lost
        config.attn_config.rope_theta = 10_000.0
    config._attn_implementation = "eager"
    config._experts_implementation = "eager"
    torch.manual_seed(20250506)
    model = getattr(hf, model_class)(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            else:
                parameter.normal_(std=0.3)
    trained: nn.Module = model.eval()
    return trained
