"""What a kernel is given and gives back is held against its annotations in each call."""

from typing import TypeVar

import beartype
import jaxtyping
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

import axes
from spectra.kernels.entries import power_of_two_near
from spectra.kernels.similarity import leading_of

Kind = TypeVar("Kind")


def checked(one: Kind) -> Kind:
    """Decorate as kernels are when they are imported by a test."""
    found: Kind = axes.jaxtyped(one, typechecker=beartype.beartype)
    return found


def test_axes_are_those_of_the_other_arguments() -> None:
    vectors, sigma = torch.eye(3).double(), torch.ones(3).double()
    leading_of(vectors, sigma, 2, 3)
    with pytest.raises(jaxtyping.TypeCheckError, match="sigma"):
        leading_of(vectors, sigma[:2], 2, 3)
    with pytest.raises(jaxtyping.TypeCheckError, match="vectors"):
        leading_of(vectors[0], sigma, 2, 3)
    with pytest.raises(jaxtyping.TypeCheckError, match="length"):
        leading_of(vectors, sigma, 2, "3")  # type: ignore[arg-type]


def test_what_comes_back_has_the_axes_of_what_was_given() -> None:
    @checked
    def cut(one: Float[Tensor, "rows cols"], rows: int) -> Float[Tensor, "rows cols"]:
        return one[:rows]

    assert cut(torch.ones(3, 2), 3).shape == (3, 2)
    with pytest.raises(jaxtyping.TypeCheckError, match="return value"):
        cut(torch.ones(3, 2), 2)


def test_nested_axes_are_found() -> None:
    @checked
    def both(pair: tuple[Float[Tensor, " k"], Float[Tensor, " k"]] | None) -> None:
        del pair

    both((torch.ones(3), torch.ones(3)))
    both(None)
    with pytest.raises(jaxtyping.TypeCheckError, match="pair"):
        both((torch.ones(3), torch.ones(2)))


def test_kernels_without_axes_are_checked_too() -> None:
    assert power_of_two_near(3.0) in {2.0, 4.0}
    with pytest.raises(beartype.roar.BeartypeCallHintParamViolation, match="value"):
        power_of_two_near("3")  # type: ignore[arg-type]

    @checked
    def wrong(one: Tensor) -> Tensor:
        return float(one)  # type: ignore[return-value]

    with pytest.raises(beartype.roar.BeartypeCallHintReturnViolation):
        wrong(torch.ones(()))
