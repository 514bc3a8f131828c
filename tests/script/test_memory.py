"""What a step frees is kept for the next one."""

import os
import subprocess
import sys

import pytest

FAULTS = """
import resource
from common.script.memory import keep_memory
{}
import torch
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16 << 20)  # 64 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_memory_that_was_freed_is_not_mapped_anew():
    # A script that ran in this process before has left its own setting.
    own = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}

    def faults(call: str) -> int:
        command = [sys.executable, "-c", FAULTS.format(call)]
        ended = subprocess.run(command, check=True, capture_output=True, text=True, env=own)
        return int(ended.stdout)

    assert 10 * faults("keep_memory()") < faults("")
