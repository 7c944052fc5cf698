"""Machines to launch on: a Slurm that acts here, and a `basinet` that is quick to start."""

import json
import os
import shutil
import socket
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from torch.distributed import run

from basinet.launch.cli import main

_SHIM = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as caller:
    caller.connect({address!r})
    caller.sendall(json.dumps([sys.argv, os.getcwd(), dict(os.environ)]).encode() + b"\\n")
    status, out, err = json.loads(caller.makefile().readline())
print(out, end="")
print(err, end="", file=sys.stderr)
sys.exit(status)
"""


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """A folder at the front of PATH, with the commands of Slurm."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sbatch", "srun", "scontrol"):
        (folder / name).write_text(f"#!{sys.executable} -IS\n{Path(__file__).with_name('fake_slurm.py').read_text()}")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(folder))
    return folder


def called(place, program, *words):
    """Do what a command does: `basinet`, `torchrun`, or `python -u -m basinet`, by which torchrun starts a rank."""
    os.chdir(place)
    if program == "torchrun":
        return run.main(words)
    return main([*words[words.index("basinet") + 1 :]] if program == "python" else [*words])


@pytest.fixture
def quick_commands(commands, processes, monkeypatch):
    """Let scripts call `basinet` and `torchrun` in processes that have loaded the libraries already."""
    folder = tempfile.mkdtemp(prefix="basinet-")  # the path of a socket is short
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{folder}/socket")
    listener.listen(16)
    for name in ("basinet", "torchrun", "python"):
        (commands / name).write_text(_SHIM.format(python=sys.executable, address=f"{folder}/socket"))
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PYTHON_EXEC", str(commands / "python"))

    def answer(call):
        with call, call.makefile("rw") as lines:
            words, place, environment = json.loads(lines.readline())
            process = processes.start(called, place, Path(words[0]).name, *words[1:], **environment)
            (status,), ((out, err),) = processes.end([process])
            lines.write(json.dumps([status, out, err]) + "\n")

    def serve():
        while True:
            try:
                call, _ = listener.accept()
            except OSError:  # closed at the end
                return
            threading.Thread(target=answer, args=(call,), daemon=True).start()

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    yield
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    server.join()
    shutil.rmtree(folder)
