"""Memory comes before it is written, and in huge pages, without changing what is there."""

from __future__ import annotations

import ctypes
import mmap
import platform
from pathlib import Path

import pytest
import torch
from bedplate_server.pages import make_huge, populate

LINUX = tuple(map(int, platform.release().split(".")[:2]))
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def mapped(size: int) -> torch.Tensor:
    """Zeros, `size` bytes in a mapping of its own."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    return torch.frombuffer(mmap.mmap(-1, size, flags=flags), dtype=torch.uint8)


def resident(buffer: torch.Tensor) -> float:
    """Which share of the buffer's whole pages is in memory."""
    first = -(-buffer.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    size = (buffer.data_ptr() + buffer.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE - first
    pages = (ctypes.c_ubyte * (size // mmap.PAGESIZE))()
    assert ctypes.CDLL(None).mincore(ctypes.c_void_p(first), ctypes.c_size_t(size), pages) == 0
    return sum(page & 1 for page in pages) / len(pages)


def huge_bytes(address: int) -> int:
    """How much of the mapping at an address is in huge pages."""
    there = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, _, rest = line.partition(" ")
        if "-" in first:
            begin, end = (int(word, 16) for word in first.split("-"))
            there = begin <= address < end
        elif there and first == "AnonHugePages:":
            return int(rest.split()[0]) * 1024
    raise AssertionError(f"nothing is at {address:x}")


@pytest.mark.skipif(LINUX < (5, 14), reason="MADV_POPULATE_WRITE came with Linux 5.14")
def test_pages_come_before_they_are_written_and_keep_what_is() -> None:
    buffers = [mapped(48 * 2**20 + 5000) for _ in range(2)]
    buffers[1][-10:] = 7
    assert max(map(resident, buffers)) < 0.2
    populate(buffers).join()
    assert [resident(buffer) for buffer in buffers] == [1, 1]
    assert not bool(buffers[0].any()) and int(buffers[1].sum()) == 70


@pytest.mark.skipif(
    LINUX < (6, 1) or not HUGE_PAGES.exists() or "[never]" in HUGE_PAGES.read_text(),
    reason="MADV_COLLAPSE came with Linux 6.1, and an administrator can forbid huge pages",
)
def test_neighbours_move_to_huge_pages_together_and_keep_what_is() -> None:
    size, no_huge_pages = 16 * 2**20, 15
    buffer = mapped(size)
    start = buffer.data_ptr()
    assert ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), no_huge_pages) == 0
    buffer.copy_(torch.arange(size) % 251)
    assert huge_bytes(start) == 0
    # None of them has a whole huge page of its own.
    make_huge((start + begin, 2**20 - 64) for begin in range(0, size, 2**20))
    assert huge_bytes(start) >= size - 2 * 2**21
    assert torch.equal(buffer, (torch.arange(size) % 251).to(torch.uint8))
