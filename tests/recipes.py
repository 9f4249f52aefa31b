"""Settings of tiny models that the keys of a configuration do not tell."""

from collections.abc import Mapping
from typing import Any

RESNET = {
    "model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16, 16, 32],
    "depths": [1, 1, 1, 1], "out_features": ["stage1", "stage2", "stage3", "stage4"],
}  # fmt: skip
SLOW = {"rope_type": "default", "rope_theta": 10_000.0}
BY_KIND = {"full_attention": SLOW, "sliding_attention": SLOW}
TOKENIZER = {"num_filters": 4, "downsampling_ratios": (2, 2), "depths": (1, 1, 2)}
FORECAST = {"prediction_length": 4, "context_length": 12, "d_model": 32}
VISION = {"image_size": 32, "patch_size": 8}
LAST_THREE = {"out_features": ["stage2", "stage3", "stage4"]}
BRANCHES = {
    "reduce_channel": [1, 1, 0], "return_channel": [1, 1, 0],
    **{f"{way}_conv_{kind}": [size, 1, pad]
       for way in ("vertical_long_to_small", "horizontal_small_to_long")
       for kind, size, pad in (("longratio", 7, 3), ("midratio", 5, 2), ("shortratio", 3, 1))},
    **{f"symmetric_conv_{kind}": [size, 1, pad]
       for kind, size, pad in (("long_longratio", 7, 3), ("long_midratio", 5, 2),
                               ("long_shortratio", 3, 1))},
}  # fmt: skip

RECIPES: Mapping[str, Mapping[str, Any]] = {
    "AutoformerConfig": FORECAST,
    "InformerConfig": FORECAST,
    "TimeSeriesTransformerConfig": FORECAST,
    "BailingHybridConfig": {"head_dim": 8},
    "BitConfig": {"num_groups": 4},
    "BridgeTowerVisionConfig": {"hidden_size": 64},
    "ChameleonConfig": {"vocabulary_map": {"<image>": 3}},
    "ChameleonVQVAEConfig": {"channel_multiplier": (1, 1), "num_res_blocks": 1},
    "CohereCompassTextConfig": {
        "rope_parameters": BY_KIND, "layer_types": ["sliding_attention", "full_attention"],
    },
    "ConditionalDetrConfig": {"backbone_config": RESNET},
    "Cosmos3EdgeTextConfig": {"rope_parameters": {**SLOW, "mrope_section": [2, 1, 1]}},
    "DFineConfig": {"backbone_config": LAST_THREE},
    "DabDetrConfig": {"backbone_config": RESNET},
    "DacConfig": {"encoder_hidden_size": 4},
    "DbrxAttentionConfig": {"rope_theta": 10_000.0},
    "DeepseekOcr2TextConfig": {"mlp_layer_types": ["dense", "sparse"]},
    "DeformableDetrConfig": {"backbone_config": RESNET},
    "DepthProConfig": {
        "patch_size": 32, "image_model_config": VISION, "patch_model_config": VISION,
        "fov_model_config": VISION, "intermediate_hook_ids": (1, 0),
        "scaled_images_feature_dims": (32, 32, 32), "intermediate_feature_dims": (32, 32),
    },
    "DetrConfig": {"backbone_config": RESNET},
    "DiffusionGemmaTextConfig": {"num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 24},
    "Dots1Config": {"n_routed_experts": 4, "n_shared_experts": 1, "first_k_dense_replace": 1},
    "Dots3NoteTextConfig": {
        "swa_num_attention_heads": 4, "swa_num_key_value_heads": 4, "swa_head_dim": 8,
        "swa_qk_nope_head_dim": 4, "swa_qk_rope_head_dim": 4, "swa_v_head_dim": 8,
        "swa_kv_lora_rank": 16, "swa_q_lora_rank": 12,
    },
    "EfficientLoFTRConfig": {
        "stage_num_blocks": [1, 1, 2, 2], "out_features": [16, 16, 32, 32], "hidden_size": 32,
    },
    "EfficientNetConfig": {"width_coefficient": 0.5},
    "Emu3VQVAEConfig": {
        "channel_multiplier": (1, 2), "num_res_blocks": 1, "attn_resolutions": (1,),
    },
    "Emu3Config": {"vocabulary_map": {"<|extra_200|>": 3}},
    "EncodecConfig": {"num_filters": 4},
    "Ernie4_5_VLMoeTextConfig": {
        "moe_intermediate_size": [24, 16], "moe_num_shared_experts": 1,
        "rope_parameters": {**SLOW, "mrope_section": [1, 1, 2]},
    },
    "EsmConfig": {"vocab_size": 33},
    "FalconH1Config": {"mamba_d_ssm": 64},
    "FunAsrNanoAdaptorConfig": {"intermediate_size": 8},
    "GPTNeoConfig": {"attention_types": [[["global", "local"], 1]], "num_layers": 2},
    "Gemma3nTextConfig": {
        "num_kv_shared_layers": 0, "intermediate_size": [48, 48], "hidden_size_per_layer_input": 8,
    },
    "Gemma4TextConfig": {"num_kv_shared_layers": 0},
    "Gemma4UnifiedTextConfig": {"num_kv_shared_layers": 0},
    "Glm5NextTextConfig": {"index_topk": 16},
    "Granite4VisionConfig": {
        "deepstack_layer_map": [[0, 0], [1, 1]], "downsample_rate": "1/2",
        "vision_config": {"hidden_size": 64},
    },
    "HieraConfig": {"num_query_pool": 3},
    "HunYuanDenseV1Config": {"head_dim": 8},
    "HunYuanMoEV1Config": {"head_dim": 8},
    "HunYuanVLTextConfig": {"head_dim": 8},
    "JanusVQVAEConfig": {"channel_multiplier": (1, 1), "num_res_blocks": 1},
    "Lfm2MoeConfig": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "Llama4TextConfig": {"intermediate_size_mlp": 48, "moe_layers": [1]},
    "LwDetrViTConfig": {"num_windows": 4},
    "Mamba2Config": {"num_heads": 8, "n_groups": 2},
    "MimiConfig": {"num_filters": 4, "num_quantizers": 4, "upsampling_ratios": [2, 2]},
    "MimiDecoderConfig": {"num_filters": 4, "num_quantizers": 4, "upsampling_ratios": [2, 2]},
    "MimiEncoderConfig": {"num_filters": 4, "num_quantizers": 4, "upsampling_ratios": [2, 2]},
    "MinistralConfig": {"head_dim": 8},
    "MobileNetV1Config": {"depth_multiplier": 0.25},
    "MobileNetV2Config": {"depth_multiplier": 0.25},
    "MobileViTV2Config": {"width_multiplier": 0.5},
    "Molmo2AdapterConfig": {"vision_feature_layer": [1, 0]},
    "MoonshineStreamingConfig": {"num_key_value_heads": 4},
    "MuseSparkAudioConfig": {"hidden_sizes": [16, 32]},
    "MoshiConfig": {"num_codebooks": 4, "depth_decoder_config": {"num_codebooks": 4}},
    "NemotronConfig": {"num_key_value_heads": 4},
    "NeoMMEConfig": {"rope_parameters": {"full_attention": {**SLOW, "partial_rotary_factor": 0.5},
                                         "sliding_attention": SLOW}},
    "NeuCodecConfig": {"encoder_hidden_size": 4},
    "PPLCNetV3Config": {"scale": 0.25},
    "PPOCRV5ServerDetConfig": {
        "intraclass_block_config": BRANCHES, "kernel_list": [3, 2, 2],
    },
    "PPOCRV6MediumDetConfig": {"intraclass_block_config": BRANCHES},
    "Qwen3OmniMoeTalkerConfig": {"spatial_merge_size": 2},
    "Qwen3OmniMoeTalkerTextConfig": {"shared_expert_intermediate_size": 24, "num_experts": 4},
    "Qwen4ExpTextConfig": {
        "indexer_n_heads": 4, "indexer_kv_heads": 1, "indexer_head_dim": 8, "indexer_budget": 16,
        "indexer_compress_ratio": 4, "hc_lowrank": 8,
    },
    "ReformerConfig": {
        "is_decoder": True, "axial_pos_embds_dim": (8, 24), "axial_pos_shape": (8, 8),
    },
    "T5Gemma2DecoderConfig": {"dropout_rate": 0.0},
    "T5Gemma2TextConfig": {"dropout_rate": 0.0},
    "TableTransformerConfig": {"backbone_config": RESNET},
    "TvpConfig": {"backbone_config": RESNET, "visual_prompt_size": 4},
    "UnivNetConfig": {"model_hidden_channels": 8, "kernel_predictor_hidden_channels": 8},
    "UperNetConfig": {"backbone_config": RESNET},
    "VibeVoiceAcousticTokenizerConfig": TOKENIZER,
    "VibeVoiceAcousticTokenizerDecoderConfig": TOKENIZER,
    "VibeVoiceAcousticTokenizerEncoderConfig": TOKENIZER,
    "VitMatteConfig": {
        "convstream_hidden_sizes": [8, 8, 16], "fusion_hidden_sizes": [32, 16, 8, 8],
    },
    "Wav2Vec2BertConfig": {"vocab_size": 40},
    "Wav2Vec2ConformerConfig": {"vocab_size": 40},
    "Xcodec2Config": {"encoder_hidden_size": 4},
    "ZambaConfig": {
        "num_hidden_layers": 4,
        "layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"],
    },
}  # fmt: skip
"""By class of configuration, of a whole model or of a part of one."""
