"""The table of families that fuse several matrices, or store one transposed."""

import re

from spectra.matrices.heads import key_heads, query_heads
from spectra.matrices.part import Part
from spectra.matrices.rule import (
    Config,
    Rule,
    backwards,
    count,
    cut,
    divide,
    even_kernel,
    grouped,
    in_blocks,
    kernel,
    square_thirds,
    stacked,
    stacked_either_way,
    striped,
    told,
    turned,
    where,
    whole,
)

Q, K, V = Part("q", "attn.q"), Part("k", "attn.k"), Part("v", "attn.v")
OUT = Part("o", "attn.o")
GATE, UP, DOWN = Part("gate", "mlp.gate"), Part("up", "mlp.up"), Part("down", "mlp.down")
LATENT = Part("kv", "other")  # DeepSeek's keys and values before they are expanded
FILTER = Part("gate", "other")  # Qwen's gate on the attention's output

delta_keys = count("linear_num_key_heads")
delta_values = count("linear_num_value_heads")
delta_key_size = count("linear_key_head_dim")
delta_value_size = count("linear_value_head_dim")


def query_heads_each(config: Config) -> tuple[int, int, int]:
    """Return the q, k and v heads in the group of one key head."""
    return divide(query_heads(config), key_heads(config)), 1, 1


def grouped_query(config: Config) -> tuple[int, int, int]:
    """Return all q, k and v heads."""
    return query_heads(config), key_heads(config), key_heads(config)


def exaone_heads(config: Config) -> tuple[int, int, int]:
    """Return all q, k and v heads of EXAONE's vision tower; its text part's are not meant."""
    keys = count("num_key_value_heads")(config)
    return count("num_heads")(config), keys, keys


def latent_and_rope(config: Config) -> tuple[int, int]:
    """Return the rows of DeepSeek's latent and of the key part that rotates."""
    return count("kv_lora_rank")(config), count("qk_rope_head_dim")(config)


def key_and_value(config: Config) -> tuple[int, int]:
    """Return the k and v rows of one head, expanded from DeepSeek's latent."""
    return count("qk_nope_head_dim")(config), count("v_head_dim")(config)


def delta_rows(config: Config) -> tuple[int, int, int]:
    """Return the q, k and v rows of a gated delta net."""
    keys = delta_keys(config) * delta_key_size(config)
    return keys, keys, delta_values(config) * delta_value_size(config)


def delta_rows_each(config: Config) -> tuple[int, int, int, int]:
    """Return the q, k, v and z rows that go with one of its key heads."""
    values = divide(delta_values(config), delta_keys(config)) * delta_value_size(config)
    return delta_key_size(config), delta_key_size(config), values, values


def gguf_rows(config: Config) -> tuple[int, int, int]:
    """Return the q, k and v rows of GGUF's `attn_qkv`, or their proportion."""
    queries, keys, values = grouped_query(config)
    if "head_dim" not in config or "v_head_dim" not in config:
        return queries, keys, values
    size = count("head_dim")(config)
    return queries * size, keys * size, values * count("v_head_dim")(config)


gate_then_up = cut(GATE, UP)
thirds = cut(Q, K, V)
per_head = cut(Q, K, V, groups=query_heads)
upsample_groups = count("upsample_groups")
dbrx_experts = count("ffn_config.moe_num_experts")

_CONV1D = "gpt2 imagegpt openai-gpt decision_transformer clvp clvp_decoder gpt-sw3"
_DELTA = "qwen3_next qwen3_5_text qwen3_5_moe_text qwen4_exp_text"
# What transformers 5 holds in memory; files keep one tensor per expert unless saved with
# save_original_format=False. (Qwen3.5, Gemma 4 and Mistral 4 are published so.)
_EXPERTS = (
    "afmoe axk1 axk2 bailing_hybrid beam cohere2_moe deepseek_ocr2 deepseek_ocr2_text deepseek_v2 "
    "deepseek_v3 deepseek_v32 deepseek_v4 diffusion_gemma diffusion_gemma_text dots1 dots3_note "
    "dots3_note_text dots3_note_vision_encoder ernie4_5_moe ernie4_5_vl_moe ernie4_5_vl_moe_text "
    "exaone_moe flex_olmo gemma4 gemma4_text glm4_moe glm4_moe_lite glm4v_moe glm4v_moe_text "
    "glm5_next glm5_next_text glm_moe_dsa granitemoe granitemoe_swa granitemoehybrid "
    "granitemoeshared hunyuan_v1_moe hy_v3 hy_v4 inkling2 inkling2_text inkling_mm_model "
    "inkling_text jamba kimi_k2 kimi_linear kolibri1 laguna lfm2_moe longcat_flash mellum "
    "mimo_v2_flash minimax minimax_m2 minimax_m3_vl minimax_m3_vl_text mistral4 mistral_large4 "
    "mistral_large4_text mixtral muse_spark muse_spark_text nemotron_h nemotron_h_omni "
    "nemo_speechlm olmoe phimoe qwen2_moe qwen3_5_moe qwen3_5_moe_text qwen3_moe qwen3_next "
    "qwen3_omni_moe qwen3_omni_moe_talker_text qwen3_omni_moe_text qwen3_omni_moe_thinker "
    "qwen4_exp qwen4_exp_text solar_open step3p5 step3p7 unlimited_ocr unlimited_ocr_text zaya"
)
_GRANITE = "granitemoe granitemoeshared granitemoehybrid granitemoe_swa"
_MODERN = "modernbert modernbert-decoder modernvbert colmodernvbert"
_INKLING = "inkling2 inkling2_text inkling_mm_model inkling_text"
_HIERA = "hiera sam2 sam2_hiera_det_model sam2_vision_model sam2_video edgetam edgetam_video"
_GATED = (
    "dia dia_decoder dia_encoder dots3_note dots3_note_audio_encoder glm glm4 glm46v glm4v "
    "glm4v_text glm_image glm_image_text glm_ocr glm_ocr_text glmga minimax_m3_vl "
    "minimax_m3_vl_text phi3 phi4_multimodal zamba2"
)
_DEPTH = "chmv2 depth_anything dpt prompt_depth_anything tipsv2_dpt zoedepth"
_MIMI = (
    "csm kyutai_speech_to_text mimi mimi_decoder moshi pocket_tts pocket_tts_audio_tokenizer "
    "pocket_tts_audio_tokenizer_decoder"
)
_KEYS_AND_VALUES = (
    "jetmoe granite_speech granite_speech_encoder granite_speech_plus granite_speech_plus_encoder "
    "granite_speech5_ctc granite_speech5_encoder evolla EvollaModel"
)
_VOCODERS = (
    "fastspeech2_conformer_hifigan fastspeech2_conformer_with_hifigan speecht5_hifigan vits "
    "seamless_m4t seamless_m4t_v2 nemo_speechlm nemotron3_5_transcribe_word_timestamp"
)
_BIGVGAN = "qwen2_5_omni qwen2_5_omni_bigvgan qwen2_5_omni_token2wav qwen3_omni_moe"

_TABLE: tuple[tuple[str, str, Rule], ...] = (
    # Attention. `*` is any family: torch.nn.MultiheadAttention itself.
    ("*", r"in_proj_weight", thirds),
    (_HIERA, r"qkv\.weight", thirds),
    ("exaone4_5_vision", r"qkv\.weight", cut(Q, K, V, shares=exaone_heads)),
    ("*", r"qkv\.weight", where(square_thirds, thirds)),
    ("florence2 florence_vision", r"qkv\.weight", thirds),
    ("bark", r"attn\.att_proj\.weight", thirds),
    (_KEYS_AND_VALUES, r"(?:to_kv|kv_proj)\.weight", cut(K, V)),
    ("xlnet", r"rel_attn\.[qkvr]", turned(whole)),
    ("xlnet", r"rel_attn\.o", whole),
    ("jetmoe", r"self_attention\.experts\.input_linear\.weight", stacked(cut(Q))),
    ("jetmoe", r"self_attention\.experts\.output_linear\.weight", stacked(cut(OUT))),
    (_CONV1D, r"attn\.c_attn\.weight", turned(thirds)),
    (_CONV1D, r"crossattention\.c_attn\.weight", turned(cut(K, V))),
    (_CONV1D, r"(?:c_fc|c_proj|q_attn)\.weight", turned(whole)),
    ("gpt_neox gpt_neox_japanese bloom persimmon", r"query_key_value\.weight", per_head),
    ("deberta", r"self\.in_proj\.weight", per_head),
    ("falcon RefinedWeb RefinedWebModel", r"query_key_value\.weight",
     cut(Q, K, V, groups=key_heads, shares=query_heads_each)),
    ("gpt_bigcode", r"attn\.c_attn\.weight",
     cut(Q, K, V, groups=key_heads, shares=query_heads_each)),
    ("minimax", r"self_attn\.qkv_proj\.weight", per_head),
    ("codegen", r"qkv_proj\.weight", cut(Q, V, K, groups=lambda _config: 4)),
    ("phi3 phi4_multimodal", r"self_attn\.qkv_proj\.weight", cut(Q, K, V, shares=grouped_query)),
    ("dbrx", r"attn\.Wqkv\.weight", cut(Q, K, V, shares=grouped_query)),
    (f"mpt nomic_bert {_MODERN}", r"attn\.Wqkv\.weight", thirds),
    ("*", r"kv_a_proj_with_mqa\.weight",
     where(told("kv_lora_rank", "qk_rope_head_dim"), cut(LATENT, K, shares=latent_and_rope))),
    ("*", r"kv_b_proj\.weight",
     where(told("qk_nope_head_dim", "v_head_dim"),
           cut(K, V, groups=query_heads, shares=key_and_value))),
    (_DELTA, r"self_attn\.q_proj\.weight", cut(Q, FILTER, groups=query_heads)),
    (_DELTA, r"in_proj_qkv\.weight", cut(Q, K, V, shares=delta_rows)),
    (_DELTA, r"in_proj_qkvz\.weight",
     cut(Q, K, V, Part("z", "other"), groups=delta_keys, shares=delta_rows_each)),
    ("gemma3 shieldgemma2 t5gemma2 t5gemma2_encoder", r"mm_input_projection_weight", turned(whole)),
    # GGUF's own names, where a tensor has no counterpart in transformers' model.
    ("*", r"blk\.\d+\.attn_qkv\.weight", cut(Q, K, V, shares=gguf_rows)),
    ("*", r"(?:self_attn\.k_b_proj|blk\.\d+\.attn_k_b)\.weight", cut(K)),
    ("*", r"(?:self_attn\.v_b_proj|blk\.\d+\.attn_v_b)\.weight", cut(V)),
    ("*", r"blk\.\d+\.ffn_(?:gate|up|down)_exps\.weight", stacked(whole)),
    ("*", r"blk\.\d+\.ffn_gate_up_exps\.weight", stacked(gate_then_up)),
    # Feed-forward.
    ("phi4_multimodal phi4_multimodal_audio", r"feed_forward_(?:in|out)\.gate_up_proj\.weight",
     cut(UP, GATE)),
    (_GATED, r"gate_up_proj\.weight", gate_then_up),
    (_MODERN, r"mlp\.Wi\.weight", gate_then_up),
    (_GRANITE, r"shared_mlp\.input_linear\.weight", gate_then_up),
    ("dinov2 dinov2_with_registers", r"mlp\.weights_in\.weight", gate_then_up),
    # Experts.
    ("*", r"switch_(?:mlp|glu)\.(?:gate|up|down)_proj\.weight", stacked(whole)),  # mlx-lm
    (_EXPERTS, r"experts\.gate_up_proj", stacked(gate_then_up)),
    (_EXPERTS, r"(?:experts|moe)\.(?:gate_proj|up_proj|down_proj)(?:\.weight)?", stacked(whole)),
    (_INKLING, r"shared_experts\.(?:gate|up|down)_proj", stacked(whole)),
    (_INKLING, r"mlp\.w13_dn\.weight", striped(GATE, UP)),
    (_INKLING, r"(?:shared_)?experts\.(?:shared_)?w13_weight", stacked(striped(GATE, UP))),
    (_INKLING, r"(?:shared_)?experts\.(?:shared_)?w2_weight", stacked(cut(DOWN))),
    (_GRANITE, r"block_sparse_moe\.input_linear\.weight", stacked(gate_then_up)),
    (_GRANITE, r"block_sparse_moe\.output_linear\.weight", stacked(whole)),
    ("jetmoe", r"mlp\.input_linear\.weight", stacked(gate_then_up)),
    ("jetmoe", r"mlp\.output_linear\.weight", stacked(whole)),
    ("openai_privacy_filter", r"experts\.gate_up_proj", stacked(turned(gate_then_up))),
    ("openai_privacy_filter", r"experts\.down_proj", stacked(turned(whole))),
    ("llama4 llama4_text aria aria_text", r"experts\.gate_up_proj", stacked(turned(gate_then_up))),
    ("llama4 llama4_text aria aria_text", r"experts\.down_proj", stacked(turned(whole))),
    ("aria aria_text", r"experts\.fc1\.weight", stacked(turned(gate_then_up))),
    ("aria aria_text", r"experts\.fc2\.weight", stacked(turned(whole))),
    ("gpt_oss", r"experts\.gate_up_proj", stacked(turned(striped(GATE, UP)))),
    ("gpt_oss", r"experts\.down_proj", stacked(turned(whole))),
    ("qwen3_vl_moe_text", r"experts\.gate_up_proj", stacked_either_way(gate_then_up, axis=1)),
    ("qwen3_vl_moe_text", r"experts\.down_proj", stacked_either_way(whole, axis=0)),
    ("dbrx", r"experts\.mlp\.(?:w1|v1)", in_blocks(whole, dbrx_experts)),
    ("dbrx", r"experts\.mlp\.w2", in_blocks(turned(whole), dbrx_experts)),
    # Convolutions: transposed ones, by names that say so and by family, and grouped ones.
    ("*", r"(?:upscale_conv\d|\w*deconv\w*|convtr|conv_t\d|convt_pre|conv_?transpose\w*)\.weight",
     where(kernel, backwards())),
    (_DEPTH, r"resize\.weight", where(even_kernel, backwards())),
    ("sam3 sam3_lite_text sam3_tracker sam3_tracker_video sam3_video sam3_vision_model",
     r"scale_layers\.\d+\.weight", where(even_kernel, backwards())),
    ("eomt eomt_dinov3 videomt", r"upscale_block\.block\.\d+\.conv1\.weight", backwards()),
    ("pp_ocrv5_mobile_det pp_ocrv5_server_det pp_ocrv6_small_det pp_ocrv6_medium_det",
     r"(?:conv_up\.convolution|conv_final)\.weight",
     where(even_kernel, backwards())),
    ("beit data2vec-vision", r"fpn[12]\.\d+\.weight", backwards()),
    ("depth_pro", r"(?:layers\.\d+|deconv)\.weight",
     where(even_kernel, backwards())),
    ("sam_hq sam_hq_mask_decoder", r"(?:compress_vit_conv|encoder_conv)\d\.weight",
     where(even_kernel, backwards())),
    (_MIMI, r"upsample\.conv\.weight", where(told("upsample_groups"), backwards(upsample_groups))),
    (_MIMI, r"decoder\w*\.layers\.\d+\.conv\.weight",
     where(even_kernel, backwards())),
    (_VOCODERS, r"upsampler(?:\.\d+)?\.weight", backwards()),
    (_BIGVGAN, r"ups\.\d+\.\d+\.weight", backwards()),
    ("qwen3_omni_moe", r"code2wav\.(?:upsample\.\d+\.0|decoder\.\d+\.block\.1)\.conv\.weight",
     backwards()),
    ("squeezebert", r"attention\.query\.weight", grouped(count("q_groups"))),
    ("squeezebert", r"attention\.key\.weight", grouped(count("k_groups"))),
    ("squeezebert", r"attention\.value\.weight", grouped(count("v_groups"))),
    ("squeezebert", r"intermediate\.conv1d\.weight", grouped(count("intermediate_groups"))),
    ("squeezebert", r"\d+\.output\.conv1d\.weight", grouped(count("output_groups"))),
    ("mgp-str", r"(?:tokenLearner\.0|feat)\.weight", grouped(lambda _config: 8)),
)  # fmt: skip

TABLE = tuple(
    (frozenset(families.split()) - {"*"}, re.compile(rf"(?:^|\.){end}$"), rule)
    for families, end, rule in _TABLE
)
"""Families (none: any), end of the tensor's name, rule. First match wins."""
