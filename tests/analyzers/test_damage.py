"""What is recognised of a change that no training made, and of what training did nothing."""

from collections.abc import Callable, Iterator, Mapping

import pytest
import torch
from torch import Tensor

from analyzers.subjects import pair_of, row_of
from spectra.analyzers import Diff, Row, damage
from spectra.matrices import LowRank

DIFF = Diff()
NAME = "encoder.layer.{}.attention.self.query.weight"


def normal(rows: int, cols: int, seed: int = 0) -> Tensor:
    drawn: Tensor = torch.randn(rows, cols, generator=torch.Generator().manual_seed(seed))
    return drawn.mul_(0.05)


BASE = normal(96, 96)
TALL = normal(192, 96)


def rolled(matrix: Tensor, dim: int) -> Tensor:
    return matrix.roll(7, dim)


def collapsed(matrix: Tensor, rank: int) -> Tensor:
    left, sigma, right = torch.linalg.svd(matrix, full_matrices=False)
    product: Tensor = (left[:, :rank] * sigma[:rank]) @ right[:rank]
    return product


def zeroed(matrix: Tensor, *where: slice) -> Tensor:
    found = matrix.clone()
    found[where] = 0.0
    return found


def tail(matrix: Tensor, share: float) -> Tensor:
    found = matrix.clone()
    found.view(-1)[int(found.numel() * (1.0 - share)) :] = 0.0
    return found


def exchanged(matrix: Tensor) -> Tensor:
    found = matrix.clone()
    found[[3, 40]] = found[[40, 3]]
    return found


def trained(matrix: Tensor, by: float = 0.01) -> Tensor:
    return matrix + by * normal(len(matrix), matrix.shape[1], 5)


def pruned(matrix: Tensor) -> Tensor:
    return torch.where(matrix.abs() < matrix.abs().median(), 0.0, matrix)


def row(base: Tensor, tuned: Tensor | LowRank | None, layer: int = 0) -> Row:
    return row_of(DIFF, pair_of(base, tuned, NAME.format(layer)))


def told(*rows: Row) -> tuple[list[Mapping[str, object]], str]:
    found, summary = DIFF.conclude(rows)
    return [one.values for one in found], str(summary["reading"])


BROKEN: dict[str, tuple[Tensor, Callable[[Tensor], Tensor], str, str]] = {
    "zero": (BASE, torch.zeros_like, "zero", "became 0 in every entry"),
    "head": (BASE, lambda w: zeroed(w, slice(32, 64)), "zero rows",
             "lost rows 32-63 of 96, which are 0 now, and no other entry changed"),
    "columns": (BASE, lambda w: zeroed(w, slice(None), slice(0, 8)), "zero rows",
                "lost columns 0-7 of 96, which are 0 now, and no other entry changed"),
    "both": (BASE, lambda w: zeroed(zeroed(w, slice(4, 6)), slice(None), slice(0, 8)), "zero rows",
             ("lost rows 4-5 of 96 and columns 0-7 of 96, which are 0 now, and no other entry "
              "changed")),
    "scattered": (BASE, lambda w: zeroed(w, slice(1, 30, 3)), "zero rows",
                  ("lost 10 of 96 rows (1, 4, 7, 10, ...), which are 0 now, and no other entry "
                   "changed")),
    "tail": (TALL, lambda w: tail(w, 0.201), "zero run",
             ("lost the last 20.1 % of its entries in one run, which are 0 now, and no other "
              "changed")),
    "tenfold": (BASE, lambda w: w * 10.0, "multiple", "became the base's times 10"),
    "tenfold, rounded": (BASE.bfloat16(), lambda w: (w * 0.3).bfloat16(), "multiple",
                         "became the base's times 0.3"),
    "flipped": (BASE, lambda w: -w, "multiple", "became the base's times -1 (every sign flipped)"),
    "transposed": (BASE, lambda w: w.mT.contiguous(), "transpose", "became the base's transposed"),
    "rows": (TALL, lambda w: rolled(w, 0), "reordered",
             "came out with the base's rows in another order (192 of 192 rows moved)"),
    "two rows": (TALL, exchanged, "reordered",
                 "came out with the base's rows in another order (2 of 192 rows moved)"),
    "inputs": (TALL, lambda w: rolled(w, 1), "reordered",
               "came out with the base's columns in another order (96 of 96 columns moved)"),
    "collapse": (BASE, lambda w: collapsed(w, 8), "collapse",
                 "fell to rank 8, from 96 in the base"),
    "collapse, rounded": (BASE.bfloat16(), lambda w: collapsed(w.float(), 8).bfloat16(), "collapse",
                          "fell to rank 8, from 96 in the base"),
    "constant": (BASE, lambda w: torch.full_like(w, 0.01), "collapse",
                 "fell to rank 1, from 96 in the base"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_no_training_makes_is_named(name: str) -> None:
    base, spoil, kind, note = BROKEN[name]
    (values,), text = told(row(base, spoil(base)))
    assert (values["delta_kind"], values["delta_note"]) == (kind, note)
    assert text == f"Recognised (1 of 1 matrix): {NAME.format(0)} {note}."


def test_lines_of_what_was_trained_far_are_not_compared_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Tensor] = []
    lines = damage._lines

    def seen(side: Tensor, moved: Tensor) -> Iterator[bytes]:
        asked.append(side)
        return lines(side, moved)

    monkeypatch.setattr(damage, "_lines", seen)
    told(row(BASE, trained(BASE, 0.5)))
    assert not asked
    told(row(BASE, rolled(BASE, 0)))
    assert len(asked) == 2


def test_a_matrix_drawn_anew_is_not_called_trained() -> None:
    (values,), text = told(row(BASE, normal(96, 96, 9)))
    assert values["delta_kind"] == "unlike"
    assert "kept a cosine of 0.0" in text
    assert text.endswith("with the base: replaced, shifted or trained anew, which is not known.")
    assert "fine-tuning" not in text


def test_matrices_of_one_another_are_named() -> None:
    other = normal(96, 96, 3)
    values, text = told(row(BASE, other, 0), row(other, BASE, 1), row(TALL, TALL, 2))
    first, second = NAME.format(0), NAME.format(1)
    assert [one["delta_kind"] for one in values] == ["another's", "another's", "unchanged"]
    assert text == (
        f"Recognised (2 of 3 matrices): {first} became the base's {second}; {second} became the "
        f"base's {first}."
    )


def test_a_layer_over_another_that_stays_is_named_in_another_dtype_too() -> None:
    base = [normal(96, 96, seed).bfloat16() for seed in range(6)]
    rows = [row(base[at], base[at % 3].float(), at) for at in range(6)]
    values, text = told(*rows)
    assert [one["delta_kind"] for one in values] == ["unchanged"] * 3 + ["another's"] * 3
    assert text.endswith("; 1 more became another matrix of the base.")


def test_training_beside_damage_is_still_told() -> None:
    rows = [row(BASE, trained(BASE), layer) for layer in range(3)]
    values, text = told(*rows, row(TALL, TALL * 10.0, 3))
    assert values[0]["delta_note"] is None
    assert text == (
        "The change looks like full fine-tuning on attention of 3 layers (3 of 4 matrices). "
        f"Recognised (1 of 4 matrices): {NAME.format(3)} became the base's times 10."
    )


def test_rows_that_became_zero_beside_training() -> None:
    (values,), text = told(row(BASE, zeroed(trained(BASE), slice(32, 64))))
    assert values["delta_kind"] in {"full rank", "scaled rows"}
    assert values["delta_note"] == "lost rows 32-63 of 96, which are 0 now"
    assert text.startswith("The change looks like full fine-tuning on")
    assert text.endswith(f"{NAME.format(0)} lost rows 32-63 of 96, which are 0 now.")
    plain = [row(BASE, trained(BASE), layer) for layer in range(1, 4)]
    _, text = told(row(BASE, zeroed(trained(BASE), slice(32, 64))), *plain)
    assert text.startswith("The change looks like full fine-tuning on attention of 4 layers (4 of")


HEALTHY: dict[str, tuple[Tensor, Tensor | LowRank | None]] = {
    "lora": (BASE, BASE + normal(96, 4, 1) @ normal(4, 96, 2)),
    "adapter": (BASE, LowRank(normal(96, 4, 1), normal(4, 96, 2))),
    "full": (BASE, trained(BASE)),
    "long": (BASE, trained(BASE, 1.0)),
    "pruned": (BASE, pruned(BASE)),
    "rounded": (BASE, BASE.bfloat16()),
    "merged and rounded": (BASE, (BASE + normal(96, 4, 1) @ normal(4, 96, 2)).bfloat16()),
    "one row": (TALL, torch.cat([TALL[:1] + 1.0, TALL[1:]])),
    "scaled rows": (TALL, TALL * (1.0 + 0.1 * torch.arange(192)[:, None] / 192)),
    "one entry": (BASE, zeroed(BASE, slice(3, 4), slice(3, 4))),
    "same": (BASE, BASE.clone()),
    "untouched": (BASE, None),
    "zeros": (torch.zeros(20, 30), torch.zeros(20, 30)),
    "from zeros": (torch.zeros(20, 30), normal(20, 30)),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_what_training_and_storing_make_is_not_named(name: str) -> None:
    (values,), text = told(row(*HEALTHY[name]))
    assert values["delta_note"] is None
    assert "Recognised" not in text


def test_small_rows_that_rounding_took_are_not_lost() -> None:
    base = BASE.clone()
    base[5] *= 1e-7
    tuned = trained(base).half()
    tuned[5] = 0.0
    (values,), _ = told(row(base, tuned))
    assert values["delta_note"] is None
