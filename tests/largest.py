"""The largest tensor that is made while something is asked."""

from collections.abc import Callable, Mapping

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Made(TorchDispatchMode):
    """Notes the bytes of the largest tensor that is made, beside those that were there."""

    def __init__(self, *given: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.given = {one.untyped_storage().data_ptr() for one in given}
        self.most: int = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        found = func(*args, **(kwargs or {}))
        for one in tree_leaves(found):
            if isinstance(one, Tensor) and one.untyped_storage().data_ptr() not in self.given:
                self.most = max(self.most, one.untyped_storage().nbytes())
        return found


def most_made(matrix: Tensor, ask: Callable[[Tensor], object]) -> int:
    with Made(matrix) as made:
        ask(matrix)
    return int(made.most)
