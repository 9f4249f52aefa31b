#!/usr/bin/env bash
# Prints one table, in under 4 minutes: whole commands with `--device cuda` on a layer of a 7B
# shape, against torch.linalg.svd on the same GPU. Needs a GPU and Python 3.11 or newer.
#
#   benchmarks/gpu.sh [PART...]      adapter merged full kappa spectrum, or some of them
#
# What the Python at hand has is used (PYTHON=... names one); what it lacks is installed into an
# environment of its own, build/gpu, which later runs use again. The published way takes one
# matrix of each shape, multiplied, and is stopped where time runs out: its ratio is then a least.
set -euo pipefail

readonly BUDGET=225  # seconds, of 240
readonly NEEDED="torch scipy safetensors huggingface_hub httpx2 typer rich pandas matplotlib jaxtyping"

cd "$(dirname "${BASH_SOURCE[0]}")/.."

recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

complete() {
    "$1" - "$NEEDED" <<'PY' 2>/dev/null
import importlib.util, sys
missing = [name for name in sys.argv[1].split() if importlib.util.find_spec(name) is None]
if missing:
    sys.exit(1)
import torch
sys.exit(not torch.cuda.is_available())
PY
}

found=""
oldest=""
for candidate in ${PYTHON:+"$PYTHON"} build/gpu/bin/python .venv/bin/python \
    python3.13 python3.12 python3.11 python3 python; do
    path=$(command -v "$candidate") || continue
    recent "$path" || continue
    oldest=${oldest:-$path}
    if complete "$path"; then
        found=$path
        break
    fi
done

if [[ -z $found ]]; then
    if [[ -z $oldest ]]; then
        echo "gpu.sh: no Python 3.11 or newer; name one with PYTHON=/path/to/python" >&2
        exit 2
    fi
    if ! command -v nvidia-smi >/dev/null; then
        echo "gpu.sh: no GPU: nvidia-smi is not there, and torch at hand sees none" >&2
        exit 2
    fi
    echo "installing into build/gpu" >&2
    # A torch that is installed already is seen through, which saves gigabytes.
    "$oldest" -m venv --system-site-packages build/gpu
    build/gpu/bin/python -m pip install --quiet --disable-pip-version-check -e . >&2
    found=$PWD/build/gpu/bin/python
    if ! complete "$found"; then
        "$found" -c 'import torch; print(f"gpu.sh: torch {torch.__version__} sees no GPU")' >&2
        exit 2
    fi
fi

# The sources as they lie here, also where nothing is installed.
sources=$(mktemp -d)
trap 'rm -rf "$sources"' EXIT
ln -s "$PWD/spectra" "$sources/spectra"
ln -s "$PWD/cli" "$sources/spectra_cli"
export PYTHONPATH="$sources${PYTHONPATH:+:$PYTHONPATH}"

limit=$(((BUDGET - SECONDS - 90) / 5))
if ((limit < 5)); then limit=5; fi
if (($# == 0)); then set -- adapter merged full kappa spectrum; fi
status=0
timeout --foreground "$((BUDGET - SECONDS > 30 ? BUDGET - SECONDS : 30))" \
    "$found" -m benchmarks layer "$@" --device cuda --runs 1 --sample --limit "$limit" || status=$?
if ((status == 124)); then
    echo "gpu.sh: stopped after ${SECONDS} s; name fewer parts for the rest" >&2
fi
exit "$status"
