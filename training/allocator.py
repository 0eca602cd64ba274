"""How the C library keeps the memory that updates take and free."""

from __future__ import annotations

import ctypes
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Let what one update frees serve the next one, instead of going back to the system: on Linux with glibc.

    Every update takes and frees tensors of tens of megabytes. glibc returns such memory at once, and the system then
    hands it out again page by page, zeroed: a quarter of the time of the attention head's update on frames. It holds
    for the whole process, which keeps the memory that it needed most.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        library.mallopt(MMAP_THRESHOLD, 2**30)
        library.mallopt(TRIM_THRESHOLD, 2**31 - 1)
