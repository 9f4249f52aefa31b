"""How many heads a layer has, by the words of several families."""

from typing import Any

import pytest

from spectra.matrices.heads import Heads, heads_of

Q = "model.layers.3.self_attn.q_proj.weight"


@pytest.mark.parametrize(
    ("name", "config", "expected"),
    [
        (Q, {}, Heads(None, None, None, None)),
        (Q, {"num_attention_heads": 8}, Heads(8, 8, None, None)),
        (Q, {"num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64},
         Heads(8, 2, 64, 64)),
        (Q, {"n_head": 8, "multi_query": True, "model_type": "gpt_bigcode"},
         Heads(8, 1, None, None)),
        (Q, {"n_heads": 8, "attn_config": {"kv_n_heads": 4}}, Heads(8, 4, None, None)),
        (Q, {"num_attention_heads": 8, "head_dim": 192, "v_head_dim": 128},
         Heads(8, 8, 192, 128)),
        (Q, {"text_config": {"num_attention_heads": 4}}, Heads(4, 4, None, None)),
        ("decoder.layers.0.self_attn.q_proj.weight",
         {"encoder_attention_heads": 2, "decoder_attention_heads": 6}, Heads(6, 6, None, None)),
        ("model.decoder.layers.0.self_attn.k_proj.weight",
         {"encoder_num_attention_heads": 2, "decoder_num_attention_heads": 6,
          "decoder_num_key_value_heads": 3}, Heads(6, 3, None, None)),
        ("prophetnet.encoder.layers.0.self_attn.query_proj.weight",
         {"num_encoder_attention_heads": 2, "num_decoder_attention_heads": 6},
         Heads(2, 2, None, None)),
        ("model.decoder.layers.0.self_attn.q_proj.weight",
         {"encoder": {"num_attention_heads": 2},
          "decoder": {"num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 8}},
         Heads(6, 3, 8, 8)),
        (Q, {"attention_heads": 8}, Heads(8, 8, None, None)),
        (Q, {"num_attention_heads": 8, "per_layer_config": {"3": {"num_attention_heads": 6}}},
         Heads(6, 6, None, None)),
    ],
)  # fmt: skip
def test_heads(name: str, config: dict[str, Any], expected: Heads) -> None:
    assert heads_of(name, config) == expected


def test_a_role_has_its_own() -> None:
    heads = Heads(8, 2, 192, 128)
    found = [heads.of(role) for role in ("attn.q", "attn.k", "attn.v", "attn.o")]
    assert found == [(8, 192), (2, 192), (2, 128), (8, 128)]
