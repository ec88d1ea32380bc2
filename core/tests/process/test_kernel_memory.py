"""Memory of large blocks goes back to the system."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
from pathlib import Path
from ovnkit.process.memory import give_back_large_blocks

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

if {give_back}:
    assert give_back_large_blocks()
del (first := {{0: bytearray(8 << 20)}})[0]  # glibc raises its limit at the first one that is freed
before = resident()
blocks = []
for _ in range(8):
    blocks += [bytearray(4 << 20), bytearray(64 << 10)]
del blocks[::2]  # what stays lies between what goes
print((resident() - before) >> 20)
"""


def _kept(give_back: bool) -> int:
    program = PROGRAM.format(give_back=give_back)
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return int(found.stdout)


def test_holes_between_blocks_that_stay_are_given_back() -> None:
    assert _kept(give_back=True) <= 2
    assert _kept(give_back=False) >= 16
