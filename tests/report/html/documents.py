"""Results made up for pages: of any size, deterministic, some with hostile names."""

import math
import random
from collections.abc import Iterator
from typing import Any

Document = dict[str, Any]

ROLES = (
    ("attn.q", "self_attn.q_proj", 1, 1), ("attn.k", "self_attn.k_proj", 1, 1),
    ("attn.v", "self_attn.v_proj", 1, 1), ("attn.o", "self_attn.o_proj", 1, 1),
    ("mlp.gate", "mlp.gate_proj", 4, 1), ("mlp.up", "mlp.up_proj", 4, 1),
    ("mlp.down", "mlp.down_proj", 1, 4),
)  # fmt: skip
DIGEST = "sha256:" + 8 * "01234567"
HOSTILE = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\u2028\u202egnp.exe\x1b[31m",
    "a.#.7.\u0661.007.weight",
    '"><svg onload=alert(1)>',
    "javascript:alert(1)",
    "\ud800lone",
    "&lt;b&gt;&amp;#39;",
    "x" * 3000,
)


def identity(name: str, role: str, layer: int | None, rows: int, cols: int) -> Document:
    return {
        "tensor": name, "matrix": name, "role": role, "layer": layer, "expert": None,
        "rows": rows, "cols": cols, "dtype": "BF16", "codec": None, "status": "ok", "error": None,
    }  # fmt: skip


def places(layers: int, width: int) -> Iterator[Document]:
    yield identity("model.embed_tokens.weight", "embed", None, 32000, width)
    for layer in range(layers):
        for role, name, tall, wide in ROLES:
            full = f"model.layers.{layer}.{name}.weight"
            yield identity(full, role, layer, tall * width, wide * width)


def result(command: str, rows: list[Document], reading: str, **summary: object) -> Document:
    return {
        "schema": "spectra/1",
        "spectra": "0.1.0",
        "date": "2026-01-02T03:04:05Z",
        "command": command,
        "settings": {"include": [], "exclude": [], "roles": [], "layers": ""},
        "models": [
            {
                "spec": "acme/big",
                "resolved": "acme/big",
                "part": "model",
                "codecs": {},
                "digest": DIGEST,
            }
        ],
        "rows": rows,
        "skipped": [{"tensor": "model.norm.weight", "reason": "one-dimensional"}],
        "summary": {"reading": reading, "skipped": 1, **summary},
    }


def measured(row: Document, source: random.Random) -> Document:
    """A falling spectrum with a few spikes, and what it says of itself."""
    rank = min(row["rows"], row["cols"])
    ranks = [(2 * i * (rank - 1) + 64) // 128 for i in range(65)]
    scale = math.exp(source.gauss(0.0, 0.4))
    profile = [
        float(f"{scale * (1.0 + 8.0 / (1 + i)) * (1.001 - i / rank):.6g}") for i in ranks
    ]  # fmt: skip
    kappa = profile[0] / profile[-1]
    return row | {
        "sigma_max": profile[0],
        "sigma_min": profile[-1],
        "frobenius": scale * math.sqrt(rank) * (1 + source.random()),
        "kappa": kappa * (1 + source.random()),
        "stable_rank": rank * source.random() / 3,
        "effective_rank": rank * (0.7 + 0.2 * source.random()),
        "energy_rank": int(0.9 * rank),
        "numerical_rank": rank,
        "alpha": 2.0 + 4.0 * source.random(),
        "alpha_xmin": profile[8] ** 2,
        "alpha_ks": 0.05 + source.random() / 10,
        "mp_edge": profile[4],
        "spikes": 3 + int(9 * source.random()),
        "sigma_profile": profile,
    }


def spectrum(layers: int = 4, width: int = 512) -> Document:
    source = random.Random(1)  # noqa: S311 - no secret
    rows = [measured(row, source) for row in places(layers, width)]
    found = result("spectrum", rows, f"{len(rows)} matrices.", matrices=len(rows))
    found["summary"]["parameters"] = sum(row["rows"] * row["cols"] for row in rows)
    found["settings"]["energy"] = 0.99
    return found


def diff(layers: int = 4, width: int = 512) -> Document:
    source = random.Random(2)  # noqa: S311
    rows = []
    for row in places(layers, width):
        cosines = [1 - 0.3 * source.random() ** 2 for _ in range(10)]
        if source.random() < 0.1 or row["matrix"] == "model.layers.1.mlp.up_proj.weight":
            cosines[int(10 * source.random())] = 0.2 + 0.25 * source.random()
        detail = [
            {"index": i, "sigma": 5.0 - i / 3, "max_cos": cosine, "max_cos_error": 1e-4,
             "best_match": i, "energy": 0.01 * (10 - i), "intruder": cosine < 0.5, "tied": False,
             "decided_by": "match" if cosine >= 0.5 else "bound"}
            for i, cosine in enumerate(cosines)
        ]  # fmt: skip
        relative = 0.02 + 0.1 * source.random()
        rows.append(
            row | {
                "delta_norm": 3.0 * relative, "delta_relative": relative,
                "delta_sigma_max": 2.0 * relative, "delta_stable_rank": 1 + source.random(),
                "delta_effective_rank": 4 + source.random(), "delta_energy_rank": 5,
                "delta_rank": 16, "intruders": sum(c < 0.5 for c in cosines), "certified": True,
                "null_cos": 0.13, "subspace_overlap": 0.9, "intruder_detail": detail,
            }
        )  # fmt: skip
    count = sum(row["intruders"] for row in rows)
    found = result(
        "diff", rows, f"{count} intruder dimensions.", changed=len(rows), intruders=count,
        certified=True, matrices=len(rows),
    )  # fmt: skip
    found["models"] = [
        {
            "spec": "acme/big",
            "resolved": "acme/big",
            "part": "base",
            "codecs": {},
            "digest": DIGEST,
        },
        {
            "spec": "out/tuned",
            "resolved": "out/tuned",
            "part": "tuned",
            "codecs": {},
            "digest": "sample:0123456789abcdef",
        },
    ]
    found["settings"] |= {
        "intruders": True, "k": 10, "epsilon": 0.5, "side": "left", "exact": False, "energy": 0.99,
    }  # fmt: skip
    return found


def kappa(layers: int = 4, width: int = 512) -> Document:
    source = random.Random(3)  # noqa: S311
    rows = []
    for row in places(layers, width):
        if row["role"] == "embed":
            continue
        square = row["rows"] == row["cols"]
        value = 1.0 + (2000.0 if square else 3.0) * math.exp(source.gauss(0, 0.7))
        null = 1700.0 if square else 3.0
        rows.append(
            row | {
                "kappa": value, "kappa_low": 0.999 * value, "kappa_high": 1.001 * value,
                "kappa_null": null, "kappa_excess": value / null, "kappa_resolved": not square,
                "sigma_max": 4.0, "sigma_min": 4.0 / value, "decided_by": "bound",
                "selected": False,
            }
        )  # fmt: skip
    chosen = sorted(rows, key=lambda row: row["kappa"])[: max(len(rows) // 10, 1)]
    for row in chosen:
        row["selected"] = True
    found = result(
        "kappa", rows, f"{len(chosen)} of {len(rows)} matrices selected.", eligible=len(rows),
        selected=[row["matrix"] for row in chosen], cut=chosen[-1]["kappa"], outside=0,
    )  # fmt: skip
    found["settings"] |= {
        "select": "10%", "by": "matrices", "per": "global", "rank_by": "kappa",
        "include_embeddings": False, "exact": False,
    }  # fmt: skip
    return found


def stopped(layers: int = 4) -> Document:
    """A selection whose upper half was followed no further than the cut."""
    found = kappa(layers)
    ranked = sorted(found["rows"], key=lambda row: row["kappa"])
    for row in ranked[len(ranked) // 2 :]:
        row |= {
            "status": "outside", "kappa_low": 0.9 * row["kappa"], "kappa": None,
            "kappa_high": None, "kappa_excess": None, "kappa_resolved": None,
            "sigma_max": None, "sigma_min": None, "decided_by": "outside",
        }  # fmt: skip
    found["summary"]["outside"] = len(ranked) - len(ranked) // 2
    return found


def check(layers: int = 4, width: int = 512) -> Document:
    found = spectrum(layers, width)
    found["command"] = "check"
    rows = found["rows"]
    rows[1] |= {"status": "non-finite", "error": "3 of 262144 entries are NaN, first at [8, 7]"}
    for key in [key for key in rows[1] if key not in identity("", "", None, 1, 1)]:
        rows[1][key] = None

    def finding(code: str, name: str, severity: str, row: Document, **more: object) -> Document:
        return {
            "rule": code, "name": name, "severity": severity, "tensor": row["tensor"],
            "matrix": row["matrix"], "role": row["role"], "layer": row["layer"], "value": 6.0,
            "limit": 4.0, "baseline": 1.0, "state": "new", "message": "6 > 4 allowed (baseline 1)",
            "file": "model.safetensors", "line": None, "fingerprint": "0123456789abcdef", **more,
        }  # fmt: skip

    findings = [
        finding("SPC201", "condition-jump", "warning", rows[3], state="unchanged"),
        finding("SPC002", "non-finite", "error", rows[1], message="3 NaN, first at [8, 7]"),
        finding("SPC101", "intruder-dimensions", "error", rows[5]),
        finding("SPC901", "unused-ignore", "note", rows[2], tensor=None, matrix=None, value=None),
    ]
    found["settings"] = {"path": "spectra.toml", "select": ["SPC"], "ignore": []}
    found["summary"] |= {
        "reading": f"FAIL  2 errors, 1 warning in {len(rows)} tensors (coverage 100 %).",
        "passed": False,
        "findings": findings,
        "ignored": [findings[0] | {"reason": "known, issue 42", "until": "2027-03-01"}],
        "counts": {"error": 2, "warning": 1, "note": 1, "ignored": 1, "new": 3, "unchanged": 1,
                   "gone": 0},
        "coverage": {"tensors": len(rows), "judged": len(rows), "share": 1.0},
        "rules": [
            {"code": "SPC101", "name": "intruder-dimensions", "severity": "error",
             "summary": "too many leading vectors resemble none of the base's", "findings": 1,
             "judged": True, "why_not": None},
            {"code": "SPC103", "name": "delta-rank", "severity": "error",
             "summary": "the update has a higher rank than allowed", "findings": 0,
             "judged": False, "why_not": "no base is given"},
        ],
        "policy": "spectra.toml",
        "exit_code": 1,
    }  # fmt: skip
    return found


def hostile() -> Document:
    source = random.Random(4)  # noqa: S311
    rows = [
        measured(identity(name, "other", None, 300, 200), source) | {"role": name[:40]}
        for name in HOSTILE
    ]
    rows[0] |= {"status": "singular", "kappa": None, "sigma_min": 0.0}
    found = result("spectrum", rows, f"reading {HOSTILE[0]}", matrices=len(rows))
    found["summary"]["parameters"] = 1
    found["spectra"] = HOSTILE[1]
    found["settings"] = {HOSTILE[0]: HOSTILE[1], "include": [HOSTILE[1]]}
    found["models"][0] |= {"spec": HOSTILE[0], "resolved": HOSTILE[1], "codecs": {HOSTILE[4]: 3}}
    found["skipped"] = [{"tensor": HOSTILE[1], "reason": HOSTILE[0]}]
    return found


def mixture(layers: int = 24, experts: int = 64) -> Document:
    """A model of thousands of matrices."""
    source = random.Random(5)  # noqa: S311
    rows = []
    for layer in range(layers):
        for expert in range(experts):
            for role, name, tall, wide in ROLES[4:]:
                full = f"model.layers.{layer}.mlp.experts.{expert}.{name[4:]}.weight"
                row = identity(full, role, layer, 256 * tall, 256 * wide)
                rows.append(measured(row, source) | {"expert": expert})
    found = result("spectrum", rows, f"{len(rows)} matrices.", matrices=len(rows))
    found["summary"]["parameters"] = 1
    return found


EVERY: dict[str, Any] = {"spectrum": spectrum, "diff": diff, "kappa": kappa, "check": check}


def several(command: str, labels: list[Document], layers: int) -> tuple[Document, random.Random]:
    """A result of several models, whose rows tell which they are of."""
    source = random.Random(6)  # noqa: S311
    rows = []
    for label in labels:
        width = label.get("width", 64)
        for row in places(layers, width):
            sigma = 3.0 * math.exp(source.gauss(0, 0.05)) * width**0.2 * (1 + label.get("step", 0))
            more = {"sigma_max": sigma}
            if command == "trend":
                more |= {"sigma_min": 0.01, "frobenius": 9.0, "stable_rank": 9.0, "kappa": 99.0}
            else:
                more |= {"sigma_max_low": sigma, "sigma_max_high": sigma}
            rows.append(label | row | more)
    found = result(command, rows, "Several models.", matrices=len(rows))
    found["models"] = [
        {
            "spec": label["model"],
            "resolved": label["model"],
            "part": "model",
            "codecs": {},
            "digest": None,
            **label,
        }
        for label in labels
    ]
    return found, source


def width(layers: int = 3) -> Document:
    names = {"d64": 64, "d128": 128, "d256": 256}
    labels: list[Document] = [{"model": name, "width": value} for name, value in names.items()]
    found, source = several("width", labels, layers)
    roles = [
        {"role": role, "counted": role != "embed", "models": 3, "layers": layers, "widths": 3,
         "sigma": {name: 3.0 * value**0.2 for name, value in names.items()},
         "slope": 0.2 + source.random() / 20, "low": 0.15, "high": 0.27, "reason": None,
         "interval_from": "both", "ratio": 1.32, "ok": False, "expected": 0.25,
         "normalised_slope": 0.7, "normalised_low": 0.65, "normalised_high": 0.77}
        for role in ("attn.q", "mlp.down", "embed")
    ]  # fmt: skip
    found["summary"] |= {
        "roles": roles,
        "overall": roles[0] | {"role": "overall"},
        "advice": ["Matching d256 to d64 needs weight decay 0.18 (now 0.1) on matrices."],
        "widths": names,
        "proxy": "d64",
    }
    found["settings"] |= {
        "members": [
            {"model": name, "width": value, "eta": 0.1 / value, "weight_decay": 0.1, "proxy": False}
            for name, value in names.items()
        ],
        "tolerance": 0.1,
        "confidence": 0.95,
    }
    return found


def trend(layers: int = 3) -> Document:
    steps = [100, 200, 400]
    found, _ = several("trend", [{"model": f"c-{s}", "step": s} for s in steps], layers)
    found["summary"] |= {
        "steps": steps,
        "roles": [
            {"role": "attn.q", "matrices": layers, "sigma_max": [1.0, 2.0, 3.5],
             "stable_rank": [30.0, None, 9.0], "kappa": [100.0, 150.0, 420.0]},
            {"role": "mlp.up", "matrices": layers, "sigma_max": [2.0, 2.5, 3.0],
             "stable_rank": [20.0, 19.0, 18.5], "kappa": [None, None, None]},
        ],
    }  # fmt: skip
    return found


SERIES: dict[str, Any] = {"width": width, "trend": trend}
