"""Every export is matched against all names by its consumer's rule, and the check can fail."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
import yaml  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from peft.tuners.tuners_utils import check_target_module_exists
from torch import nn

from examples import write_model
from exports.subjects import named, opened, run, view
from spectra.architectures.table import Layer, table
from spectra.checkpoint import Checkpoint
from spectra.errors import UsageError
from spectra.exports import FORMS, Export, export, peft
from spectra.exports.axolotl import compiled, hit_by_patterns
from spectra.exports.export import Job, require_exact
from spectra.exports.lora import Lora, hit_by_list
from spectra.exports.memory import NO_FAMILY, Memory, modules_of
from spectra.matrices import views_of


def made(checkpoint: Checkpoint, form: str, *names: str) -> Export:
    return export([view(checkpoint, name) for name in names], checkpoint, form)


MPT: dict[str, Any] = {
    "model_type": "mpt", "architectures": ["MptForCausalLM"], "d_model": 4, "n_heads": 2,
    "n_layers": 5, "vocab_size": 4, "max_seq_len": 4,
}  # fmt: skip
TOWERS = named("layers.0.q.weight", "layers.1.q.weight", "tower.layers.0.q.weight")


class Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.ModuleDict({"q": nn.Linear(4, 4)}) for _ in range(2))


class Towers(Tower):
    def __init__(self) -> None:
        super().__init__()
        self.tower = Tower()


def targeted(arguments: dict[str, Any]) -> set[str]:
    tuned: Any = get_peft_model(Towers(), LoraConfig(**arguments))
    return set(tuned.base_model.targeted_module_names)


def test_a_name_that_ends_another_becomes_a_pattern_for_peft() -> None:
    found = made(TOWERS, "peft", "layers.0.q.weight", "layers.1.q.weight")
    arguments = json.loads(found.text)
    assert arguments == {"target_modules": r"layers\.0\.q|layers\.1\.q"}
    assert targeted(arguments) == {"layers.0.q", "layers.1.q"}
    assert "target_modules is a pattern" in found.notes[0]
    run(found.files[".py"])["wrap"](Towers())
    # The list would have taken the tower's too.
    assert len(targeted({"target_modules": ["layers.0.q"]})) == 2


def test_without_a_collision_peft_gets_a_list() -> None:
    found = made(TOWERS, "peft", "tower.layers.0.q.weight")
    assert json.loads(found.text) == {"target_modules": ["tower.layers.0.q"]}
    assert found.notes == (NO_FAMILY,)


EXPERTS = [f"layers.0.mlp.experts.{i}.down_proj.weight" for i in range(2)]
SMALL: dict[str, Any] = {
    "hidden_size": 4, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 4,
    "vocab_size": 4,
}  # fmt: skip
REFUSED: dict[str, tuple[str, list[str], dict[str, Any], str]] = {
    "peft-bare": (
        "peft", ["layers.0.table", "tower.layers.0.table"], {},
        ("--export peft would also take 'tower.layers.0.table', which was not selected: its name "
        "fits what selects another. Use --export python, which goes by whole names."),
    ),
    "experts-of-no-family": (
        "python", ["layers.0.q.weight", *EXPERTS], {},
        ("no config.json names a model_type, and what 'layers.0.mlp.experts.0.down_proj.weight' "
        "becomes in memory hangs on it: transformers 5 holds the experts of a layer in one "
        "tensor. Put the config.json beside the weights, or use --export names."),
    ),
    "unknown-family": (
        "python", ["layers.0.q.weight"], {"model_type": "lama"},
        (f"model_type 'lama' is not known to transformers {table().version}, so whether it renames "
        "tensors on loading is unknown. Use --export names, or install the transformers that the "
        "model is trained with."),
    ),
    "beside-the-model": (
        "peft", ["2_Dense/linear.weight", "encoder.layer.0.x.weight"], {"model_type": "bert"},
        ("'2_Dense/linear.weight' is a weight of a module beside the transformers model, which "
        "peft cannot name. Leave it out with --exclude, or use --export names."),
    ),
    "not-loaded": (
        "axolotl", ["mtp.0.proj.weight", "model.norm.weight"], {"model_type": "llama", **SMALL},
        (f"'mtp.0.proj.weight' is not loaded by transformers {table().version} as "
        "LlamaForCausalLM: no parameter of the model comes of it. Leave it out with --exclude, or "
        "use --export names."),
    ),
    "peft-top": (
        "peft", ["table"], {},
        ("PEFT has no LoRA for 'table' of shape [4, 4]: leave it out with --exclude, or use "
        "--export python."),
    ),
    "llamafactory-ends": (
        "llamafactory", ["layers.0.q.weight", "tower.layers.0.q.weight"], {},
        ("--export llamafactory would also take 'tower.layers.0.q', which was not selected: its "
        "name fits what selects another. Use --export peft, or leave it out with --exclude."),
    ),
    "llamafactory-within": (
        "llamafactory", ["layers.0.q.weight", "layers.0.q_norm.weight"], {"text_config": {}},
        ("--export llamafactory would also take 'layers.0.q_norm', which was not selected: its "
        "name fits what selects another. Use --export peft, or leave it out with --exclude."),
    ),
    "llamafactory-tower": (
        "llamafactory", ["visual.blocks.0.proj.weight"], {"vision_config": {}},
        ("LLaMA-Factory leaves 'visual.blocks.0.proj' out, as it is not of the language model. "
        "Use --export peft, or leave it out with --exclude."),
    ),
    "llamafactory-comma": (
        "llamafactory", ["layers.0.a,b.weight"], {},
        ("--export llamafactory would miss the selected 'layers.0.a,b': its name cannot be written "
        "so that llamafactory finds it. Use --export peft, or leave it out with --exclude."),
    ),
    "llamafactory-bare": (
        "llamafactory", ["layers.0.table"], {},
        ("LLaMA-Factory can name modules alone, and 'layers.0.table' is to be trained as a bare "
        "parameter. Use --export peft, or leave it out with --exclude."),
    ),
    "axolotl-line-break": (
        "axolotl", ["a.weight", "a.weight\n"], {},
        (r"--export axolotl would also take 'a.weight\n', which was not selected: its name fits "
        "what selects another. Use --export python, which goes by whole names."),
    ),
    "names-line-break": (
        "names", ["a\nb.weight"], {},
        (r"--export names would miss the selected 'a\nb.weight': its name cannot be written so "
        "that names finds it. Use --export python, which goes by whole names."),
    ),
    "gguf": (
        "peft", ["blk.0.attn_q.weight"], {},
        ("'blk.0.attn_q.weight' is GGUF's own name, and what peft would call it is not known. "
        "Select from the original checkpoint, or use --export names."),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_select_another_set_is_refused_in_one_line(case: str) -> None:
    form, tensors, config, message = REFUSED[case]
    checkpoint = named(*tensors, **config)
    with pytest.raises(UsageError) as refused:
        made(checkpoint, form, tensors[0])
    assert str(refused.value) == message


@pytest.mark.parametrize(("family", "way_out"), [("mixtral", False), ("gpt_oss", True)])
def test_no_pattern_tells_two_apart_where_peft_cuts_it_down(family: str, way_out: bool) -> None:
    layers = dict.fromkeys(modules_of(TOWERS.entries), Layer("Linear"))
    job = Job((), TOWERS, memory=Memory({}, {}, layers, family))
    lora = Lora(("layers.0.q", "layers.1.q"), ())
    arguments = peft._arguments(job, lora)
    assert isinstance(arguments["target_modules"], str) == way_out
    if way_out:
        peft.require_selected(job, lora, arguments)
    else:
        with pytest.raises(UsageError, match=r"would also take 'tower\.layers\.0\.q'"):
            peft.require_selected(job, lora, arguments)


SABOTAGE: dict[str, tuple[str, Callable[..., object]]] = {
    "axolotl": ("axolotl.escaped", re.escape),  # what is escaped already matches nothing
    "python": ("python.python_list", lambda names: json.dumps(list(names[1:]))),
    "peft": ("peft._arguments", lambda _job, lora: {"target_modules": list(lora.modules[1:])}),
}


@pytest.mark.parametrize("form", SABOTAGE)
def test_a_fault_in_what_is_written_is_found(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, fault = SABOTAGE[form]
    made(TOWERS, form, "layers.0.q.weight", "layers.1.q.weight")
    monkeypatch.setattr(f"spectra.exports.{where}", fault)
    with pytest.raises(UsageError, match=rf"^--export {form} would miss the selected 'layers\.0"):
        made(TOWERS, form, "layers.0.q.weight", "layers.1.q.weight")


def test_neither_more_nor_less_is_exact() -> None:
    require_exact("peft", ["a", "b"], ["b", "a"])
    with pytest.raises(UsageError, match="would miss the selected 'b'"):
        require_exact("peft", ["a", "b"], ["a"])
    with pytest.raises(UsageError, match="would also take 'c'"):
        require_exact("peft", ["a", "b"], ["a", "b", "c"])


def test_layer_1_is_not_layers_10_to_19_and_a_dot_is_a_dot() -> None:
    names = [f"layers.{i}.q.weight" for i in range(20)] + ["layersX1.q.weight", "layers.1.qXweight"]
    checkpoint = named(*names)
    for form in FORMS:
        made(checkpoint, form, "layers.1.q.weight")
    found = yaml.safe_load(made(named(*[f"m.{n}" for n in names]), "axolotl",
                                "m.layers.1.q.weight").text)  # fmt: skip
    assert found == {"unfrozen_parameters": ["^m.layers.1.q.weight$"]}
    assert len(hit_by_patterns(["layers.1"], names)) == 12  # why patterns are whole names
    assert hit_by_patterns([r"layers\.1"], names) == []  # and are not escaped already


def test_axolotls_range_is_no_part_of_the_pattern() -> None:
    for pattern in ("^a.b$[3:5]", "^a.b$[:5]", "^a.b$[3:]", "^a.b$[3]", "^a.b$"):
        assert compiled(pattern).pattern == r"^a\.b$"


PIECE = st.text(
    st.characters(codec="utf-8", exclude_characters="\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029.,"),
    min_size=1,
    max_size=6,
).filter(lambda piece: piece.strip() == piece)
NAME = st.builds(lambda pieces: ".".join(["m", *pieces, "weight"]), st.lists(PIECE, min_size=1))


@given(st.lists(NAME, unique=True, min_size=2, max_size=6), st.data())
def test_any_name_is_written_so_that_it_is_read_back(names: list[str], data: st.DataObject) -> None:
    checkpoint = named(*names)
    known = [one.name for one in views_of(checkpoint)[0]]
    if not known:
        return
    chosen = data.draw(st.sampled_from(known))
    for form in FORMS:
        try:
            found = made(checkpoint, form, chosen)
        except UsageError:
            assert form != "python"  # that goes by whole names, so by any
            continue
        if form == "axolotl":
            (pattern,) = yaml.safe_load(found.text)["unfrozen_parameters"]
            assert [n for n in names if re.match(pattern.replace(".", r"\."), n)] == [chosen]
        if form == "llamafactory":
            assert f"{yaml.safe_load(found.text)['lora_target']}.weight" == chosen
        if form == "peft":
            json.loads(found.text)
            compile(found.files[".py"], "export.py", "exec")
        if form == "python":
            assert run(found.text)["NAMES"] == [chosen]
        if form == "names":
            assert found.text == f"{chosen}\n"


@given(st.lists(NAME, min_size=1, max_size=6), st.lists(PIECE, min_size=1, max_size=3))
def test_pefts_list_is_its_own_rule(names: list[str], ends: list[str]) -> None:
    modules = modules_of(names)
    targets = [*ends, modules[0]]
    theirs = LoraConfig(target_modules=targets)
    expected = [one for one in modules if check_target_module_exists(theirs, one)]
    assert hit_by_list(targets, modules) == expected


def test_nothing_selected_a_foreign_matrix_and_an_unknown_form() -> None:
    with pytest.raises(UsageError, match=r"^nothing is selected to export\. Select with --select"):
        export([], TOWERS, "peft")
    stranger = view(named("other.weight"), "other.weight")
    with pytest.raises(UsageError, match=r"'other\.weight' is none of this checkpoint"):
        export([stranger], TOWERS, "peft")
    with pytest.raises(UsageError) as unknown:
        made(TOWERS, "pefd", "layers.0.q.weight")
    assert str(unknown.value) == (
        "--export 'pefd' is no form of export. Did you mean 'peft'? Expected one of peft, "
        "axolotl, llamafactory, python, names."
    )


def test_the_function_finds_a_tied_weight_by_either_name() -> None:
    model = nn.ModuleDict({"wte": nn.Linear(4, 4), "head": nn.Linear(4, 4)})
    model["head"].weight = model["wte"].weight
    function = run(made(named("head.weight"), "python", "head.weight").text)["train_only"]
    assert function(model) == ["head.weight"]
    assert model["wte"].weight.requires_grad
    assert not model["wte"].bias.requires_grad


def test_names_keep_the_order_of_the_ranking_and_come_once() -> None:
    checkpoint = named("m.1.attn.Wqkv.weight", "m.0.attn.Wqkv.weight", "m.0.o.weight",
                       shape=(12, 4), **MPT)  # fmt: skip
    found = made(checkpoint, "names", "m.1.attn.Wqkv.weight[v]", "m.0.o.weight",
                 "m.1.attn.Wqkv.weight[q]")  # fmt: skip
    assert found.text == "m.1.attn.Wqkv.weight\nm.0.o.weight\n"
    assert found.notes == (
        "2 selected matrices are a part of a tensor that holds others: the list names the tensor.",
    )


def test_many_notes_are_cut_short_on_screen_and_whole_in_the_file() -> None:
    tensors = [f"transformer.blocks.{i}.attn.Wqkv.weight" for i in range(5)]
    checkpoint = named(*tensors, shape=(12, 4), **MPT)
    found = made(checkpoint, "python", *[f"{name}[q]" for name in tensors])
    assert found.notes[0] == (
        "transformer.blocks.0.attn.Wqkv.weight holds 3 matrices in one tensor: all 3 matrices are "
        "trained, of which 1 was selected."
    )
    assert found.notes[3:] == ("2 more tensors train matrices that were not selected.",)
    assert found.text.count("\n# ") == 5


def test_a_quantised_weight_is_said_to_need_dequantising(tmp_path: Path) -> None:
    folder = write_model(
        tmp_path,
        {
            "m.q.weight": torch.zeros(8, 8).to(torch.float8_e4m3fn),
            "m.k.weight": torch.zeros(8, 8),
        },
    )
    here = opened(folder, nn.Linear(1, 1))
    for form in ("python", "axolotl"):
        note, names = export(here.pick("m.q.weight"), here.checkpoint, form).notes
        assert names == NO_FAMILY
        assert note == (
            "'m.q.weight' is stored as float8: whole weights can be trained only where the model "
            "is loaded dequantised; --export peft trains beside them."
        )
        assert export(here.pick("m.k.weight"), here.checkpoint, form).notes == (NO_FAMILY,)
    assert export(here.pick("m.q.weight"), here.checkpoint, "peft").notes == (NO_FAMILY,)


def test_packed_and_gguf_weights_go_by_the_models_own_names(tmp_path: Path) -> None:
    experts = "model.layers.0.mlp.experts.down_proj"
    mxfp4 = write_model(
        tmp_path / "mxfp4",
        {
            f"{experts}_blocks": torch.zeros(2, 8, 1, 16).byte(),
            f"{experts}_scales": torch.full((2, 8, 1), 127).byte(),
        },
        json.dumps({"model_type": "gpt_oss", "quantization_config": {"quant_method": "mxfp4"}}),
    )
    gptq = write_model(
        tmp_path / "gptq",
        {
            "model.layers.0.q_proj.qweight": torch.zeros(4, 8).int(),
            "model.layers.0.q_proj.qzeros": torch.zeros(1, 1).int(),
            "model.layers.0.q_proj.scales": torch.ones(1, 8).half(),
        },
        json.dumps({"quantization_config": {"quant_method": "gptq", "bits": 4}}),
    )
    q, names = "model.layers.0.self_attn.q_proj", ("token_embd.weight", "blk.0.attn_q.weight")
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_uint32("llama.attention.head_count", 2)
    for name in names:
        writer.add_tensor(name, torch.zeros(8, 8).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    expected = {
        mxfp4: {"target_modules": [], "target_parameters": [experts]},
        gptq: {"target_modules": ["model.layers.0.q_proj"]},
        tmp_path / "m.gguf": {"target_modules": [q]},
    }
    for path, arguments in expected.items():
        here = opened(path, nn.Linear(1, 1))
        chosen = [one for one in here.views.values() if one.role.kind != "embed"][:1]
        assert json.loads(export(chosen, here.checkpoint, "peft").text) == arguments


@pytest.mark.parametrize("form", FORMS)
def test_the_first_file_is_the_one_to_print(form: str) -> None:
    found = made(TOWERS, form, "tower.layers.0.q.weight")
    assert found.form == form
    assert found.text == found.files[found.suffix]
    assert found.text.endswith("\n")
    assert found.suffix == {"peft": ".json", "python": ".py", "names": ".txt"}.get(form, ".yaml")
