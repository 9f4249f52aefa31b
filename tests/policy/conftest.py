"""What the tests of policies share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for all examples of a property; no other test's folder lies in it."""
    return tmp_path_factory.mktemp("workshop")
