"""Which matrices pass the filters, and how a mistyped filter is refused."""

import pytest

from examples import role_of
from spectra.checkpoint import TensorEntry
from spectra.errors import UsageError
from spectra.matrices.layout import Part
from spectra.matrices.selection import Selection, parse_layers
from spectra.matrices.view import View
from spectra.words import ROLES


def view(name: str, label: str = "", kind: str | None = None) -> View:
    """Make a view as views_of would."""
    part = Part(label, kind)
    role = role_of(name)
    if kind:
        role = type(role)(kind, role.layer, role.expert)
    entry = TensorEntry(name, "F32", (4, 4), "model.safetensors", 0, 64)
    return View(name + part.suffix, role, entry, part, 4, 4)


VIEWS = [
    view("model.embed_tokens.weight"),
    view("model.layers.0.self_attn.qkv_proj.weight", "q", "attn.q"),
    view("model.layers.0.self_attn.qkv_proj.weight", "k", "attn.k"),
    view("model.layers.0.self_attn.o_proj.weight"),
    view("model.layers.0.mlp.gate.weight"),
    view("model.layers.0.mlp.experts.1.up_proj.weight"),
    view("model.layers.11.self_attn.o_proj.weight"),
    view("model.layers.11.mlp.down_proj.weight"),
    view("lm_head.weight"),
]
QKV_Q, QKV_K, O_0, ROUTER, UP_0, O_11, DOWN_11 = (x.name for x in VIEWS[1:8])
EMBED, HEAD = VIEWS[0].name, VIEWS[-1].name
LAYERS = [QKV_Q, QKV_K, O_0, ROUTER, UP_0, O_11, DOWN_11]


@pytest.mark.parametrize(
    ("selection", "names"),
    [
        (Selection(), [EMBED, *LAYERS, HEAD]),
        (Selection(include=("*.o_proj.*",)), [O_0, O_11]),
        (Selection(include=("*.o_proj.*", "lm_head*")), [O_0, O_11, HEAD]),
        (Selection(include=("o_proj",)), []),
        (Selection(include=("*qkv_proj.weight",)), [QKV_Q, QKV_K]),
        (Selection(include=("*qkv_proj.weight[q]",)), [QKV_Q]),
        (Selection(include=("*[k]",)), [QKV_K]),
        (Selection(include=("*[qk]",)), []),
        (Selection(include=("model.layers.1?.*",)), [O_11, DOWN_11]),
        (Selection(include=("MODEL.*",)), []),
        (Selection(exclude=("*layers*",)), [EMBED, HEAD]),
        (Selection(exclude=("*[q]", "*layers.11*", "lm_head.weight")),
         [EMBED, QKV_K, O_0, ROUTER, UP_0]),
        (Selection(exclude=("*qkv_proj.weight",)), [EMBED, O_0, ROUTER, UP_0, O_11, DOWN_11, HEAD]),
        (Selection(include=("*layers.0*",), exclude=("*self_attn*",)), [ROUTER, UP_0]),
        (Selection(roles=("attn.q",)), [QKV_Q]),
        (Selection(roles=("attn",)), [QKV_Q, QKV_K, O_0, O_11]),
        (Selection(roles=("mlp", "router")), [ROUTER, UP_0, DOWN_11]),
        (Selection(roles=("lm_head", "embed")), [EMBED, HEAD]),
        (Selection(layers="0"), [QKV_Q, QKV_K, O_0, ROUTER, UP_0]),
        (Selection(layers="1-11"), [O_11, DOWN_11]),
        (Selection(layers="0-5, 11"), LAYERS),
        (Selection(layers="1"), []),
        (Selection(layers=" "), [EMBED, *LAYERS, HEAD]),
        (Selection(roles=("attn",), layers="11", exclude=("*q_proj*",)), [O_11]),
    ],
    ids=[
        "all by default", "a glob", "several globs, any", "a glob covers the name",
        "a tensor's name means its parts", "one part by its label", "a label's brackets",
        "brackets are no set", "question mark", "case counts", "exclude", "several excludes",
        "exclude a tensor", "include and exclude", "a role", "all of attn", "mlp and router",
        "lm_head is no group", "a layer", "a range", "a range and a layer", "layer 1 is not 11",
        "blank", "all filters together",
    ],
)  # fmt: skip
def test_what_passes(selection: Selection, names: list[str]) -> None:
    assert [found.name for found in selection.apply(VIEWS)] == names


@pytest.mark.parametrize(
    ("text", "ranges"),
    [
        ("", []),
        ("3", [range(3, 4)]),
        ("0-5,11", [range(6), range(11, 12)]),
        (" 2-2 , 007 ", [range(2, 3), range(7, 8)]),
    ],
    ids=["none", "one", "range and one", "spaces and zeros"],
)
def test_layers_are_read_as_ranges(text: str, ranges: list[range]) -> None:
    assert parse_layers(text) == ranges


EXPECTED = "Expected numbers and ranges, like 0-5,11."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", f"--layers 'x' cannot be read at 'x'. {EXPECTED}"),
        ("0-", f"--layers '0-' cannot be read at '0-'. {EXPECTED}"),
        ("-3", f"--layers '-3' cannot be read at '-3'. {EXPECTED}"),
        ("1,,2", f"--layers '1,,2' cannot be read at ''. {EXPECTED}"),
        ("0-5-7", f"--layers '0-5-7' cannot be read at '0-5-7'. {EXPECTED}"),
        ("1.5", f"--layers '1.5' cannot be read at '1.5'. {EXPECTED}"),
        ("0:5", f"--layers '0:5' cannot be read at '0:5'. {EXPECTED}"),
        ("0,7-5", "--layers '0,7-5': the range '7-5' runs backwards. Write 5-7."),
    ],
    ids=["text", "open", "negative", "gap", "three ends", "fraction", "colon", "backwards"],
)
def test_layers_that_cannot_be_read_are_refused_at_the_door(text: str, message: str) -> None:
    with pytest.raises(UsageError) as refusal:
        Selection(layers=text)
    assert str(refusal.value) == message


KNOWN = f"Expected one of {', '.join(ROLES)}, attn, mlp."


@pytest.mark.parametrize(
    ("role", "message"),
    [
        ("atn.q", f"--role 'atn.q' is no role. Did you mean 'attn.q'? {KNOWN}"),
        ("atn", f"--role 'atn' is no role. Did you mean 'attn'? {KNOWN}"),
        ("lmhead", f"--role 'lmhead' is no role. Did you mean 'lm_head'? {KNOWN}"),
        ("mlp.gat", f"--role 'mlp.gat' is no role. Did you mean 'mlp.gate'? {KNOWN}"),
        ("xyz", f"--role 'xyz' is no role. {KNOWN}"),
        ("", f"--role '' is no role. {KNOWN}"),
    ],
    ids=["letter missing", "group", "underscore missing", "cut off", "far off", "empty"],
)
def test_a_word_that_is_no_role_is_refused_at_the_door(role: str, message: str) -> None:
    with pytest.raises(UsageError) as refusal:
        Selection(roles=("attn", role))
    assert str(refusal.value) == message


def test_roles_are_given_one_by_one_or_with_commas() -> None:
    assert Selection(roles="attn.q, attn.k").roles == ("attn.q", "attn.k")
    assert Selection(roles=("attn.q,mlp", "embed")) == Selection(roles=("attn.q", "mlp", "embed"))
    with pytest.raises(UsageError, match=r"--role 'atn.k' is no role\. Did you mean 'attn.k'"):
        Selection(roles="attn.q,atn.k")


@pytest.mark.parametrize("role", [*ROLES, "attn", "mlp"])
def test_every_role_and_group_is_accepted(role: str) -> None:
    assert Selection(roles=(role,)).roles == (role,)


def test_no_layers_at_all_is_not_every_layer() -> None:
    with pytest.raises(UsageError, match="names no layer"):
        Selection(layers=[])
    assert Selection(layers="") == Selection()
