"""Checkpoints of tiny models, written by transformers and opened by us."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch
import transformers as hf

from matrices.saved import Save, Saved, save
from matrices.tiny import build


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Save:
    """Save a tiny model of a family and open it; `original=False`: as it is in memory."""
    hf.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]

    @cache
    def model(family: str) -> Any:  # noqa: ANN401 - modules differ by family
        return build(family)

    @cache
    def saved_model(family: str, *, original: bool = True) -> Saved:
        return save(model(family), tmp_path_factory.mktemp(family), original=original)

    return saved_model


@pytest.fixture(autouse=True)
def light() -> Iterator[None]:
    """Nothing here trains, and threads cost more than such small products."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        yield
    torch.set_num_threads(threads)
