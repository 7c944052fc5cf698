"""Memory and processors are those that the cgroup and Slurm grant."""

import os

import pytest

from basinet.sim.setup import memory as module
from basinet.sim.setup.memory import memory, processors

MiB = 2**20


@pytest.fixture
def granted(tmp_path, monkeypatch):
    """Write files of cgroups, and return what is granted then."""
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(module, "_OWN", tmp_path / "own")
    monkeypatch.setattr(module, "_MOUNTS", tmp_path / "mounts")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))

    def write(own="", slurm=(), **files):
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            file = tmp_path / "mounts" / name.replace("__", "/").replace("_max", ".max")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        for name, text in dict(slurm).items():
            monkeypatch.setenv(name, text)
        memory.cache_clear()
        processors.cache_clear()
        return memory(), processors()

    yield write
    memory.cache_clear()
    processors.cache_clear()


def test_without_limits_they_are_those_of_the_machine(granted):
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert granted() == (machine, 8)
    assert granted("0::/job\n", job__memory_max="max\n", job__cpu_max="max 100000\n") == (machine, 8)


def test_the_tightest_cgroup_above_this_process_decides(granted):
    limits = {"job__memory_max": f"{64 * MiB}\n", "job__step__memory_max": f"{128 * MiB}\n"}
    limits |= {"job__cpu_max": "400000 100000\n", "job__step__cpu_max": "250000 100000\n"}
    assert granted("0::/job/step\n", **limits) == (64 * MiB, 3)  # two processors and a half are three
    assert granted("0::/job\n") == (64 * MiB, 4)
    assert granted("0::/job\n", unified__job__memory_max=f"{8 * MiB}\n") == (8 * MiB, 4)  # beside version 1


def test_in_a_container_the_root_decides_whatever_path_the_host_has(granted):
    assert granted("0::/kubepods/pod7\n", memory_max=f"{32 * MiB}", cpu_max="50000 100000") == (32 * MiB, 1)


def test_version_1_has_a_folder_for_each_controller(granted, tmp_path):
    for file, text in {
        "memory/slurm/job_1/memory.limit_in_bytes": 16 * MiB,
        "memory/memory.limit_in_bytes": 2**63 - 4096,
        "cpu,cpuacct/slurm/cpu.cfs_quota_us": 200000,
        "cpu,cpuacct/slurm/cpu.cfs_period_us": 100000,
        "cpu,cpuacct/cpu.cfs_quota_us": -1,
        "cpu,cpuacct/cpu.cfs_period_us": 100000,
    }.items():
        path = tmp_path / "mounts" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    assert granted("4:memory:/slurm/job_1\n3:cpu,cpuacct:/slurm\n1:name=systemd:/\n") == (16 * MiB, 2)
    assert granted("4:memory,hugetlb:/slurm/job_1\n") == (16 * MiB, 8)  # mounted under one of the two names


@pytest.mark.parametrize(
    ("slurm", "wanted"),
    [
        ({"SLURM_MEM_PER_NODE": "48", "SLURM_CPUS_ON_NODE": "6"}, (48 * MiB, 6)),
        ({"SLURM_MEM_PER_CPU": "10", "SLURM_CPUS_ON_NODE": "4", "SLURM_CPUS_PER_TASK": "2"}, (40 * MiB, 2)),
        ({"SLURM_MEM_PER_CPU": "10", "SLURM_CPUS_PER_TASK": "2"}, (20 * MiB, 2)),
    ],
)
def test_slurm_grants_a_part_of_the_machine(granted, slurm, wanted):
    assert granted(slurm=slurm) == wanted


def test_slurm_writes_0_for_all_of_a_machine(granted):
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert granted(slurm={"SLURM_MEM_PER_NODE": "0", "SLURM_CPUS_ON_NODE": "?"}) == (machine, 8)
