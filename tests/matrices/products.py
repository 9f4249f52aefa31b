"""What an attention module multiplies: its own queries, keys and values."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

PRODUCTS = {"matmul", "__matmul__", "bmm", "baddbmm"}


@dataclass
class Attention:
    """One pass through an attention module; everything is tokens x (heads * head size)."""

    inputs: Tensor
    memory: Tensor  # what keys and values are made of; the inputs unless it attends across
    factors: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    @property
    def q(self) -> Tensor:
        """Left factor of the first product, scores = q k^T."""
        return _by_tokens(self.factors[0][0])

    @property
    def k(self) -> Tensor:
        """Right factor of the first product, scores = q k^T."""
        return _by_tokens(self.factors[0][1].mT)

    @property
    def v(self) -> Tensor:
        """Right factor of the last product, mixed by the softmax."""
        return _by_tokens(self.factors[-1][1])


class _Recorder(TorchFunctionMode):
    """Keeps the factors of every product of two activations."""

    def __init__(self, factors: list[tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.factors = factors

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the function returns
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in PRODUCTS:
            tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
            if tensors[-1].ndim > 2:  # not a weight
                self.factors.append((tensors[-2], tensors[-1]))
        return func(*args, **kwargs)


@contextmanager
def watch(module: nn.Module) -> Iterator[list[Attention]]:
    """Record every pass through an attention module while the context is open."""
    passes: list[Attention] = []
    recording = ExitStack()

    def enter(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        inputs = args[0] if args else kwargs["hidden_states"]
        across = [kwargs.get(key) for key in ("encoder_hidden_states", "key_value_states")]
        memory = next((found for found in across if found is not None), inputs)
        passes.append(Attention(inputs.flatten(0, -2), memory.flatten(0, -2)))
        recording.enter_context(_Recorder(passes[-1].factors))

    def leave(_module: nn.Module, _args: tuple[Any, ...], _output: object) -> None:
        recording.close()

    handles = [
        module.register_forward_pre_hook(enter, with_kwargs=True),
        module.register_forward_hook(leave, always_call=True),
    ]
    try:
        yield passes
    finally:
        for handle in handles:
            handle.remove()


def _by_tokens(factor: Tensor) -> Tensor:
    """[(batch of 1,) heads, tokens, size] to tokens x (heads * size)."""
    heads = factor[0] if factor.ndim == 4 else factor
    return heads.transpose(0, 1).flatten(1)
