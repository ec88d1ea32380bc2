"""What the C library does with memory that was given back.

glibc raises its limit for blocks of their own (mmap) each time such a block is freed. After the first reply of
10 MB the next ones come from the heap, and the holes that they leave there stay with the process: 50 MB of a zone
with 10,000 pods. A limit that is set stays as it is.
"""

from __future__ import annotations

import ctypes

_M_MMAP_THRESHOLD = -3
"""See mallopt(3)."""
_THRESHOLD = 128 * 1024


def give_back_large_blocks() -> bool:
    """From now on memory of large blocks goes back to the system at once; False where the C library can't."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_MMAP_THRESHOLD, _THRESHOLD))
