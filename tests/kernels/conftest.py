"""Kernels are tested on the device that SPECTRA_TEST_DEVICE names, real matrices too."""

from collections.abc import Iterator

import pytest
from torch import Tensor

from device import NAME, everything_there


@pytest.fixture(autouse=True)
def _there() -> Iterator[None]:
    with everything_there():
        yield


@pytest.fixture(scope="session")
def real(real: dict[str, Tensor]) -> dict[str, Tensor]:
    with everything_there():
        return {name: matrix.to(NAME) for name, matrix in real.items()}


@pytest.fixture(scope="session")
def updates(updates: dict[str, tuple[Tensor, Tensor]]) -> dict[str, tuple[Tensor, Tensor]]:
    with everything_there():
        return {name: (up.to(NAME), down.to(NAME)) for name, (up, down) in updates.items()}
