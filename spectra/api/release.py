"""Whether a release may ship."""
# ruff: noqa: PLR0913 - the options of a question are its keyword arguments

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from spectra.checkpoint.damaged import open_damaged
from spectra.gate import References, plan_check
from spectra.policy import Policy
from spectra.policy.given import Options, changed, policy_in_force
from spectra.runs.opening import Device, Memory, Spec
from spectra.runs.planned import Planned, asked
from spectra.words import Engine, FailOn


@asked
def check(
    model: Spec,
    *,
    policy: str | Path | Policy | None = None,
    base: Spec | None = None,
    adapter: Spec | None = None,
    baseline: Spec | None = None,
    select: str | Sequence[str] = (),
    ignore: str | Sequence[str] = (),
    fail_on: FailOn | None = None,
    min_coverage: str | float | None = None,
    allow_pickle: bool = False,
    download: bool = False,
    variant: str = "",
    device: Device = "auto",
    workers: int | None = None,
    memory: Memory = None,
    progress: bool | None = None,
    cache: bool = True,
    engine: Engine = "local",
    address: str | None = None,
) -> Planned:
    """Return what the rules of a release gate find in a model.

    Args:
        model: A folder, file, repository of the Hub, or adapter. What was opened before is whole:
            rules on damaged files and on the index find nothing in it.
        policy: A policy file, or a `spectra.policy.Policy`; the defaults where there is none: no
            file is looked for.
        base: What the model was trained from, for the rules SPC1xx.
        adapter: A LoRA adapter that should be in the model once, for SPC107.
        baseline: The release before: a model, or the JSON of an earlier check.
        select: Only these rules: codes, beginnings of codes, or names.
        ignore: Not these.
        fail_on: The least severe finding that fails; `error` where the policy has none.
        min_coverage: The share of the tensors that must be judged: 0.99 or `"99%"`.
        allow_pickle: As for `spectra.open`, of what is given as a path; so are the next two.
        download: As for `spectra.open`.
        variant: As for `spectra.open`.
        device: `cpu`, `cuda`, `cuda:N`, a `torch.device`, or `auto`: a GPU where there is one;
            or several GPUs, `"cuda:0,cuda:1"`.
        workers: Matrices at once on a CPU; one per core by default.
        memory: Bytes that the process may take, or `"4GB"`; by default as the largest matrix needs.
        progress: Show a bar, or do not; by default in notebooks alone.
        cache: Ask the store of what was measured before, and keep what is.
        engine: `local`, or `ray`: the workers of a Ray cluster, see docs/cluster.md.
        address: Of the cluster: `auto`, `HOST:PORT` or `ray://HOST:PORT`; by default as
            RAY_ADDRESS says, else one is started on this machine.

    Returns:
        `.summary["passed"]`, `["findings"]`, `["coverage"]`; `.rows` with all that was measured.

    Raises:
        SpectraError: The model or policy cannot be read.
    """
    opener = partial(open_damaged, allow_pickle=allow_pickle, download=download, variant=variant)
    models = References(opener)
    options = Options(
        base=models.named(base),
        adapter=models.named(adapter),
        baseline=models.named(baseline),
        select=_texts(select),
        ignore=_texts(ignore),
        fail_on=fail_on,
        min_coverage=min_coverage,
    )
    if not isinstance(policy, Policy):
        path = None if policy is None else Path(policy)
        policy = policy_in_force(path, isolated=True)
    planned = plan_check(str(models.named(model)), changed(policy, options), models.opened)
    return Planned(
        planned, device, workers, progress, cache, engine=engine, address=address, memory=memory
    )


def _texts(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)
