"""A command of another package: one file and an entry point, nothing of ours edited."""

import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "tests" / "data" / "plugin.py"


def installed(folder: Path, module: str = "circuits", name: str = "circuits") -> Path:
    """Lay a distribution out as pip does: the file, and what its metadata says."""
    shutil.copy(PLUGIN, folder / "circuits.py")
    info = folder / "spectra_circuits-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: spectra-circuits\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[spectra.commands]\n{name} = {module}:circuits\n")
    return folder
