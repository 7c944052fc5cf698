"""Processes that share the samples fail together, and none waits for another."""

import subprocess
import sys

import pytest

from basinet.analysis.samples import AttemptError, Share

SCRIPT = """
import sys, torch, torch.distributed as dist
from basinet.analysis.samples import AttemptError, Share
rank, store = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
share, one, found = Share(rank, 2), torch.ones(()), []

def work(fails, at):
    def steps():
        total = 0.0
        for step in range(3):
            if rank in fails and step == at:
                raise ValueError(f"rank {rank} cannot")
            total += float(share.sum(one.clone())) + len(share.gather([step])) + float(share.agree(one.clone()))
        if rank in fails and at == 3:
            raise ValueError(f"rank {rank} cannot")
        return total
    return steps

def attempt(*case):
    try:
        found.append(share.attempt(work(*case)))
    except AttemptError as error:
        found.append(error.args[0])

for fails in ([], [0], [1], [0, 1]):
    for at in (0, 2, 3):
        attempt(fails, at)

def outer():
    attempt([1], 1)  # one within another
    return work([], 0)()

found.append(share.attempt(outer))
print(found)
"""


def test_a_failure_in_one_process_is_one_in_all(tmp_path) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", SCRIPT, str(rank), str(tmp_path / "store")], stdout=subprocess.PIPE)
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    cases = [15.0] * 3 + ["rank 0 cannot"] * 3 + ["rank 1 cannot"] * 3 + ["rank 0 cannot"] * 3
    assert outputs[0] == outputs[1] == f"{[*cases, 'rank 1 cannot', 15.0]}\n".encode()


def test_a_process_alone_says_why() -> None:
    with pytest.raises(AttemptError) as failure:
        Share().attempt(lambda: 1 / 0)
    assert failure.value.args[0] == "ZeroDivisionError: division by zero"
    assert "Traceback" in failure.value.args[1]
    assert Share().attempt(lambda: 3) == 3
