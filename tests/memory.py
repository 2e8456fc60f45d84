"""How much memory a process has held."""

import re
from pathlib import Path


def peak_bytes() -> int:
    """Most memory that this process has held so far.

    Not `ru_maxrss`: Linux begins that with the peak of the process that started this one, here the whole test run.
    """
    peak_kib = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(peak_kib[1]) * 1024
