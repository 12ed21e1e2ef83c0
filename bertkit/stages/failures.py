"""How the processes of a run fail together: all of them end, and the first one says why."""

import os
from datetime import timedelta

import torch

LOST = (
    "another process of the run is gone without a word: killed, out of memory, or its machine is lost; see its log, and go on "
    "with --training.resume_from_checkpoint auto"
)
"""What the first to notice says where the one that is gone could not."""
_PATIENCE = timedelta(seconds=5)  # with a store that does not answer


def is_first_to_fail() -> bool:
    """Return whether no other process of the run has failed before this one, and note that this one has.

    The first to fail says why. The others fail alike, or because it is gone, and need not be heard.
    """
    try:
        store = torch.distributed.TCPStore(
            os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), wait_for_workers=False, timeout=_PATIENCE
        )
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        return store.add(f"bertkit: failed {attempt}", 1) == 1
    except (RuntimeError, KeyError, ValueError):  # the process that kept the store is gone; better twice than never
        return True


def is_loss_of_another(error: BaseException) -> bool:
    """Return whether an error says no more than that another process of the run is gone."""
    return isinstance(error, torch.distributed.DistError) or (
        isinstance(error, RuntimeError) and "gloo/transport" in str(error)
    )
