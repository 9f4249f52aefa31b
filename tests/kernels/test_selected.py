"""The largest entries, against a stable sort."""

import pytest
import torch
from torch import Tensor

from spectra.kernels.selected import largest_entries, product_sizes


def twin(sizes: Tensor, count: int) -> Tensor:
    order = torch.sort(sizes.reshape(-1), descending=True, stable=True).indices
    found = torch.zeros(sizes.numel(), dtype=torch.bool)
    found[order[:count]] = True
    return found.reshape(sizes.shape)


@pytest.mark.parametrize("count", [1, 7, 100, 599, 600, 1000])
def test_ties_are_broken_by_where_they_lie(count: int) -> None:
    source = torch.Generator().manual_seed(0)
    for sizes in (
        torch.rand(20, 30, generator=source),
        torch.randint(0, 3, (20, 30), generator=source).float(),  # many ties
        torch.zeros(20, 30),
    ):
        mask, least, left_out = largest_entries(sizes, count)
        assert torch.equal(mask, twin(sizes, count))
        assert least == float(sizes[mask].min())
        assert left_out == int((sizes == least).sum()) - int((sizes[mask] == least).sum())


def test_sizes_of_a_product() -> None:
    source = torch.Generator().manual_seed(0)
    left, right = (torch.randn(*shape, generator=source).double() for shape in ((700, 4), (4, 9)))
    torch.testing.assert_close(product_sizes(left, right), (left @ right).abs().float())
