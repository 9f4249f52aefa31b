"""Names as the model itself has them, without what wrappers of training leave in them."""

import re
from collections import Counter
from collections.abc import Iterable

AROUND = re.compile(
    r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_fpw_module|_checkpoint_wrapped_module"
    r"|_forward_module)\."
)
"""Parts of names by torch.compile, FSDP, activation checkpointing, and DeepSpeed and Lightning."""

OUTER = "module."
"""The prefix of DataParallel and DistributedDataParallel; a model of its own may have it within."""


def plain_names(names: Iterable[str], others: Iterable[str] = ()) -> dict[str, str]:
    """Return by each stored name the model's own, of those that differ.

    Parts that only wrappers make are left out wherever they stand, `module.` where all names
    begin with it. Of names that would fall together each stays as it is stored.

    Args:
        names: Every name of the model.
        others: What may not be of the model, such as what a trainer saved beside it.
    """
    own = {name: AROUND.sub("", name) for name in names}
    found = {name: AROUND.sub("", name) for name in others} | own
    while own and all(name.startswith(OUTER) for name in own.values()):
        own = {stored: name.removeprefix(OUTER) for stored, name in own.items()}
        found = {stored: name.removeprefix(OUTER) for stored, name in found.items()}
    count = Counter(found.values())
    return {
        stored: name
        for stored, name in found.items()
        if name and name != stored and count[name] == 1
    }
