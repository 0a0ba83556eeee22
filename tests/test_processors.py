import os

import pytest

from mprnet.processors import available_processors


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """A machine of 16 processors, of which this process may use 12."""
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(12)), raising=False)


def write(path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def test_the_processors_of_the_machine_and_those_that_the_process_is_bound_to(monkeypatch, tmp_path):
    assert available_processors(tmp_path) == 12
    monkeypatch.delattr(os, "sched_getaffinity")  # macOS and Windows
    assert available_processors(tmp_path) == 16
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_processors(tmp_path) == 1


@pytest.mark.parametrize(
    ("quota", "count"),
    [("max 100000", 12), ("400000 100000", 4), ("250000 100000", 3), ("1000 100000", 1), ("9000000 100000", 12)],
)
def test_the_quota_of_a_control_group_of_version_2(tmp_path, quota, count):
    write(tmp_path / "proc/self/cgroup", "0::/slurm/job_7")
    write(tmp_path / "sys/fs/cgroup/slurm/job_7/cpu.max", quota)
    assert available_processors(tmp_path) == count


def test_the_least_quota_of_the_groups_around_a_process(tmp_path):
    write(tmp_path / "proc/self/cgroup", "3:cpuset:/\n0::/slurm/job_7")
    write(tmp_path / "sys/fs/cgroup/slurm/job_7/cpu.max", "800000 100000")
    write(tmp_path / "sys/fs/cgroup/slurm/cpu.max", "500000 100000")
    write(tmp_path / "sys/fs/cgroup/other/cpu.max", "100000 100000")
    assert available_processors(tmp_path) == 5
    write(tmp_path / "sys/fs/cgroup/cpu.max", "200000 100000")  # a container sees its own group here
    assert available_processors(tmp_path) == 2
    write(tmp_path / "sys/cpu.max", "100000 100000")
    assert available_processors(tmp_path) == 2


@pytest.mark.parametrize(("quota", "count"), [("-1", 12), ("150000", 2), ("oops", 12)])
def test_the_quota_of_a_control_group_of_version_1(tmp_path, quota, count):
    write(tmp_path / "proc/self/cgroup", "4:cpu,cpuacct:/docker/1f\n3:memory:/")
    write(tmp_path / "sys/fs/cgroup/cpu/cpu.cfs_quota_us", quota)
    write(tmp_path / "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000")
    assert available_processors(tmp_path) == count


def test_this_machine_has_processors(monkeypatch):
    monkeypatch.undo()
    assert 1 <= available_processors() <= os.cpu_count()
