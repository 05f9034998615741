"""Pages of this process's memory: have them early, in huge ones, or give them back."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# From <linux/mman.h>; Linux 2.6.38, 5.14 and 6.1.
_HUGEPAGE, _POPULATE_WRITE, _COLLAPSE = 14, 23, 25
_HUGE_BYTES = 2**21
# From <malloc.h>; the second is the largest that glibc takes.
_MMAP_THRESHOLD, _LARGEST_IN_HEAP = -3, 2**25
# How much is populated at once.
_POPULATED_BYTES = 2**22


def populate(buffers: Sequence[torch.Tensor]) -> threading.Thread:
    """Have the system provide the buffers' pages, of all buffers the first ones first, while others work.

    Otherwise each page comes when it is first written, which holds the answers up: by 40 ms per 16 MB on a virtual machine.
    """
    for buffer in buffers:
        _advise(buffer.data_ptr(), buffer.data_ptr() + buffer.nbytes, _HUGE_BYTES, _HUGEPAGE)

    def work() -> None:
        longest = max(buffer.nbytes for buffer in buffers)
        for begin in range(0, longest, _POPULATED_BYTES):
            for buffer in buffers:
                first, end = buffer.data_ptr() + begin, buffer.data_ptr() + buffer.nbytes
                if not _advise(first, min(end, first + _POPULATED_BYTES), mmap.PAGESIZE, _POPULATE_WRITE):
                    return  # An older kernel: the pages come as they are written.

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def allocate_in_heap() -> None:
    """From now on allocations of up to 32 MB come from the heap, one behind the other, not each in a mapping of its own.

    glibc comes to that by itself once such large ones were freed.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, _LARGEST_IN_HEAP)


def make_huge(places: Iterable[tuple[int, int]]) -> None:
    """Move what is at the places (address, bytes) to huge pages: what is read over and over is read some 5 % faster.

    Not by glibc.malloc.hugetlb, which has all of the heap in them, and oneDNN's new kernels take twice as long.
    """
    spans: list[list[int]] = []
    for begin, count in sorted(places):
        if spans and begin - spans[-1][1] < mmap.PAGESIZE:
            spans[-1][1] = begin + count
        else:
            spans.append([begin, begin + count])
    for begin, end in spans:
        if _advise(begin, end, _HUGE_BYTES, _HUGEPAGE):
            # Before Linux 6.1 it comes by and by.
            _advise(begin, end, _HUGE_BYTES, _COLLAPSE)


def _advise(begin: int, end: int, unit: int, advice: int) -> bool:
    """madvise() for the whole units, of `unit` bytes, from `begin` to `end`; false if the system does not know of it."""
    first, last = -(-begin // unit) * unit, end // unit * unit
    return (
        last <= first or ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), advice) == 0
    )


def give_back() -> None:
    """Return freed pages to the system: tensors of ever new sizes leave gaps in the heap, which glibc keeps otherwise."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
