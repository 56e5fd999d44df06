"""The processor that a table was measured on."""

import os
import platform
from pathlib import Path


def processor() -> str:
    """Such as `2 cores of AMD EPYC`."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return f"{os.cpu_count()} cores of {line.partition(':')[2].strip()}"
    return f"{os.cpu_count()} cores of {platform.processor()}"
