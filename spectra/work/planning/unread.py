"""Weights that were not read, as the cause of a plan that finds nothing."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec

from spectra.checkpoint import Adapter, Checkpoint
from spectra.errors import NothingToAnalyseError, PairingError
from spectra.text import counted

if TYPE_CHECKING:
    from spectra.work.planning.plan import Plan

P = ParamSpec("P")


def telling_unread(plan: "Callable[P, Plan]") -> "Callable[P, Plan]":
    """Have a plan's errors also say which weights of its models could not be read, and why."""

    @functools.wraps(plan)
    def told(*args: P.args, **kwargs: P.kwargs) -> "Plan":
        try:
            return plan(*args, **kwargs)
        except (NothingToAnalyseError, PairingError) as error:
            opened = [one for one in args if isinstance(one, Checkpoint | Adapter)]
            models = [one.weights if isinstance(one, Adapter) else one for one in opened]
            lost = [one for model in models for one in model.skipped
                    if one.reason not in str(error)]  # fmt: skip
            if not lost:
                raise
            what = counted(len(lost), "weight is", "weights are")
            first = f"{lost[0].tensor}: {lost[0].reason.rstrip('.')}"
            raise type(error)(f"{error} {what} not read, such as {first}.") from error

    return told
