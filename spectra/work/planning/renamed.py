"""What transformers calls the tensors of a base in memory, which is how PEFT names them."""

from spectra.architectures.table import UnknownFamilyError, table
from spectra.checkpoint import Checkpoint


def renamed_of(base: Checkpoint) -> dict[str, str]:
    """Return tensors of a base by their names in memory, where those are other ones.

    Only what is renamed as it is: tensors that are fused or taken apart have no name of their
    own there. Nothing where the table does not know the family.
    """
    known = table()
    config = dict(base.config)
    if not config.get("architectures"):
        config["architectures"] = [known.likely(config, base.entries)]
    try:
        renamer = known.renamer(config)
    except UnknownFamilyError:
        return {}
    found = {}
    for name in base.entries:
        new, fusion, _ = renamer.renamed(name)
        if fusion is None and new != name and new not in base.entries:
            found[new] = name
    return found
