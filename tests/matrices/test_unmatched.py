"""Why a selection keeps nothing: the filter that is to blame, and what would keep some."""

from pathlib import Path

import pytest
import torch

from examples import write_model
from spectra.checkpoint import Checkpoint, open_spec
from spectra.matrices import Selection, views_of
from spectra.matrices.unmatched import unfit, why_none

ENDS = "--include '*up_proj' fits whole names; '*up_proj*' would fit 4."
NORM = (
    "--include 'model.norm.weight' fits none: 'model.norm.weight' is no matrix (one-dimensional)."
)
BOTH = "--include 'q_proj' fits whole names; '*q_proj*' would fit 4. --include 'zzz' fits none."
TOGETHER = (
    "Alone would keep --include '*mlp*' 4, --role attn 4 and --layers 0 2; "
    "together nothing is left."
)


@pytest.fixture
def model(tmp_path: Path) -> Checkpoint:
    tensors = {"model.embed_tokens.weight": torch.ones(4, 2), "model.norm.weight": torch.ones(2)}
    for layer in (0, 1, 2, 5):
        for name in ("self_attn.q_proj", "mlp.up_proj"):
            tensors[f"model.layers.{layer}.{name}.weight"] = torch.ones(2, 2)
    opened = open_spec(write_model(tmp_path / "m", tensors, '{"model_type": "llama"}'))
    assert isinstance(opened, Checkpoint)
    return opened


@pytest.mark.parametrize(
    ("selection", "text"),
    [
        (
            Selection(include="q_proj"),
            "--include 'q_proj' fits whole names; '*q_proj*' would fit 4.",
        ),
        (
            Selection(include="Q_PROJ"),
            "--include 'Q_PROJ' fits whole names; '*q_proj*' would fit 4.",
        ),
        (
            Selection(include="*up_proj"),
            "--include '*up_proj' fits whole names; '*up_proj*' would fit 4.",
        ),
        (Selection(include="*q_porj*"), "--include '*q_porj*' fits none. Did you mean '*q_proj*'?"),
        (Selection(include="zzz"), "--include 'zzz' fits none."),
        (
            Selection(include="*.layers.9.*"),
            "--include '*.layers.9.*' fits none: layers are 0 to 2 and 5.",
        ),
        (
            Selection(include="model.layers.3.*q_proj.weight"),
            "--include 'model.layers.3.*q_proj.weight' fits none: layers are 0 to 2 and 5.",
        ),
        (Selection(include=f"{'*e' * 40}*.9.*"), f"--include '{'*e' * 40}*.9.*' fits none."),
        (
            Selection(include="zzz.9.*"),
            "--include 'zzz.9.*' fits none: 'zzz' is in no name.",
        ),
        (
            Selection(include="*.layer.9.zzz"),
            "--include '*.layer.9.zzz' fits none: 'zzz' is in no name.",
        ),
        (
            Selection(include="*.layrs.9.zzz"),
            (
                "--include '*.layrs.9.zzz' fits none: 'layrs' and 'zzz' are in no name. Did you "
                "mean '*layers*'?"
            ),
        ),
        (
            Selection(include="*.layrs.1.*q_proj*"),
            (
                "--include '*.layrs.1.*q_proj*' fits none: 'layrs' is in no name. Did you mean "
                "'*.layers.1.*q_proj*'?"
            ),
        ),
        (
            Selection(include="*.layrs.9.q_proj"),
            (
                "--include '*.layrs.9.q_proj' fits none: 'layrs' is in no name, 'layers' is, and "
                "layers are 0 to 2 and 5."
            ),
        ),
        (
            Selection(include="*.layers.1.q_proj"),
            "--include '*.layers.1.q_proj' fits whole names; '*layers.1.*q_proj*' would fit 1.",
        ),
        (
            Selection(include="*q_proj*,*zzz*"),
            (
                "--include '*q_proj*,*zzz*' fits none: it is one glob. Give them one by one: "
                "--include '*q_proj*' --include '*zzz*'."
            ),
        ),
        (Selection(include="y,zzz"), "--include 'y,zzz' fits none: 'zzz' is in no name."),
        (Selection(include=""), "--include '' fits none."),
        (
            Selection(include="model.norm.weight"),
            NORM,
        ),
        (
            Selection(include=("q_proj", "zzz")),
            BOTH,
        ),
        (Selection(exclude="*"), "--exclude '*' fits all of them."),
        (Selection(roles="router"), "--role router: roles are attn.q, mlp.up and embed."),
        (Selection(layers="9"), "--layers 9: layers are 0 to 2 and 5."),
        (Selection(layers="3-4"), "--layers 3-4: layers are 0 to 2 and 5."),
        (
            Selection(roles="attn", layers="0", include="*mlp*"),
            TOGETHER,
        ),
    ],
    ids=str,
)
def test_the_filter_to_blame_is_named(model: Checkpoint, selection: Selection, text: str) -> None:
    views, skipped = views_of(model)
    assert selection.apply(views) == []
    assert why_none(selection, views, skipped) == text


@pytest.mark.parametrize("glob", ["q_proj", "Q_proj", "*q_porj*", "layers.0", "mlp", "up_prj"])
def test_what_is_offered_would_fit(model: Checkpoint, glob: str) -> None:
    views, skipped = views_of(model)
    told = why_none(Selection(include=glob), views, skipped)
    offered = told.split("'")[3]
    assert Selection(include=offered).apply(views), told


def test_a_model_without_layers(tmp_path: Path) -> None:
    opened = open_spec(write_model(tmp_path / "m", {"a.weight": torch.ones(2, 2)}))
    assert isinstance(opened, Checkpoint)
    assert why_none(Selection(layers="0"), *views_of(opened)) == "--layers 0: none lies in a layer."


@pytest.mark.parametrize(
    ("selection", "notes"),
    [
        (Selection(layers="1,9"), ["--layers 9: layers are 0 to 2 and 5."]),
        (Selection(layers="1-9"), ["--layers 1-9: layers are 0 to 2 and 5."]),
        (Selection(layers="1,3-4"), ["--layers 3-4: layers are 0 to 2 and 5."]),
        (
            Selection(include=("*q_proj*", "up_proj")),
            ["--include 'up_proj' fits whole names; '*up_proj*' would fit 4."],
        ),
        (
            Selection(exclude="q_proj"),
            ["--exclude 'q_proj' fits whole names; '*q_proj*' would fit 4."],
        ),
        (
            Selection(roles=("mlp", "router")),
            ["--role router: roles are attn.q, mlp.up and embed."],
        ),
        (
            Selection(include=("*layers.0*", "*layers.1*"), layers="0"),
            ["--include '*layers.1*' keeps none beside --layers 0."],
        ),
        (
            Selection(roles=("attn", "mlp"), include="*q_proj*"),
            ["--role mlp keeps none beside --include '*q_proj*'."],
        ),
        (
            Selection(include="*q_proj*", layers="0,1", roles=("attn.q", "attn")),
            [],
        ),
        (Selection(layers="0-5", exclude="*mlp*"), []),
        (Selection(roles="mlp", exclude="*q_proj*"), []),  # as asked for, though it does nothing
        (Selection(), []),
    ],
    ids=str,
)
def test_a_filter_that_fits_nothing_beside_others_is_told(
    model: Checkpoint, selection: Selection, notes: list[str]
) -> None:
    views, skipped = views_of(model)
    assert selection.apply(views)
    assert list(unfit(selection, views, skipped)) == notes
