"""Write values.safetensors: weights that MLX has quantised, and what it reads them as.

Run with MLX 0.32 (`pip install "mlx[cpu]"`), which the tests do without:
`python tests/data/mlx/write.py`.
"""

from pathlib import Path
from typing import Any

import mlx.core as mx  # type: ignore[import-not-found]

KINDS = [("affine", bits, group) for bits, group in
         ((2, 32), (3, 64), (4, 32), (4, 64), (5, 32), (6, 64), (8, 128), (8, 32))]  # fmt: skip
KINDS += [("mxfp4", 4, 32), ("nvfp4", 4, 16), ("mxfp8", 8, 32)]


def main() -> None:
    mx.set_default_device(mx.cpu)
    tensors: dict[str, Any] = {}
    for mode, bits, group in KINDS:
        values = mx.random.normal((3, 128), key=mx.random.key(bits))
        name = f"{mode}_{bits}_{group}"
        words, scales, *biases = mx.quantize(values, group, bits, mode=mode)
        tensors |= {f"{name}.weight": words, f"{name}.scales": scales}
        tensors |= {f"{name}.biases": part for part in biases}
        tensors[f"{name}.expected"] = mx.dequantize(
            words, scales, *biases, group_size=group, bits=bits, mode=mode, dtype=mx.float32
        )
    stack = mx.random.normal((2, 4, 64), key=mx.random.key(9)).astype(mx.bfloat16)
    words, scales, biases = mx.quantize(stack, 64, 4)
    tensors |= {"stack.weight": words, "stack.scales": scales, "stack.biases": biases}
    tensors["stack.expected"] = mx.dequantize(
        words, scales.astype(mx.float32), biases.astype(mx.float32), 64, 4
    )
    kernel = mx.random.normal((4, 3, 2, 5), key=mx.random.key(1))  # out, height, width, in
    tensors |= {"conv.weight": kernel, "conv.expected": mx.contiguous(kernel.transpose(0, 3, 1, 2))}
    path = Path(__file__).with_name("values.safetensors")
    mx.save_safetensors(str(path), tensors, {"format": "mlx"})


main()
