import resource
from pathlib import Path

import pytest
import torch

from mprnet import MPRNet
from mprnet.inference import memory
from mprnet.model.local_pooling import set_local_pooling

CPU = torch.device("cpu")


@pytest.mark.parametrize("stages", [1, 2, 3])
@pytest.mark.parametrize("patch", [None, 64])
def test_the_estimate_equals_the_memory_of_a_real_pass(stages, patch):
    """In a real pass on the CPU, the tensors are counted in the same way, for another size and a batch."""
    torch.manual_seed(0)
    model = MPRNet(8, 4, 4, num_cab=2).eval()
    set_local_pooling(model, patch)
    image = torch.rand(2, 3, 320, 256).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode(), memory._TensorCounter() as count:
        model(image, stages=stages)
    estimate = memory.MemoryEstimate(model, stages, CPU).peak(2, 320, 256) / memory._OVERHEAD
    assert estimate == pytest.approx(count.peak, rel=0.15)


@pytest.mark.parametrize("patch", [256, 1024])
def test_the_estimate_includes_large_windows(patch):
    """An image that is larger than the windows needs more memory per pixel than an image that is not."""
    model = MPRNet(4, 2, 2, num_cab=1, reduction=2).eval().bfloat16()
    set_local_pooling(model, patch)
    estimate = memory.MemoryEstimate(model, None, CPU).peak(1, 4096, 4096) / memory._OVERHEAD
    assert memory._peak(model, None, 4096) < 1.1 * estimate


def test_half_precision_and_fewer_stages_need_less_memory():
    model = MPRNet(32, 4, 4, num_cab=1).eval()
    needs = [memory.MemoryEstimate(model, stages, CPU).peak(1, 1024, 1024) for stages in (1, 2, 3)]
    assert needs == sorted(needs)
    assert memory.MemoryEstimate(model.bfloat16(), None, CPU).peak(1, 1024, 1024) < 0.6 * needs[-1]


def test_on_a_gpu_large_images_also_need_bands(tiny):
    """Small ones are not cut into bands."""
    cpu, gpu = (memory.MemoryEstimate(tiny, None, torch.device(name)) for name in ("cpu", "cuda"))
    assert gpu.peak(1, 64, 64) == 2 * cpu.peak(1, 64, 64) < 2**26
    assert gpu.peak(1, 8192, 8192) == cpu.peak(1, 8192, 8192) + 3 * (2**28 - 2**24)


def test_free_memory_is_the_least_of_all_limits(monkeypatch):
    for name, value in (("_free_in_system", 8), ("_free_in_group", 5), ("_free_in_process", 7), ("_resident", 1)):
        monkeypatch.setattr(memory, name, lambda value=value: value * 10**9)
    assert memory.free_memory(CPU) == 5 * 10**9
    assert memory.free_memory(CPU, 4 * 10**9) == 3 * 10**9
    assert memory.free_memory(CPU, 10**8) == -9 * 10**8
    monkeypatch.setattr(memory, "_free_in_group", lambda: None)
    assert memory.free_memory(CPU) == 7 * 10**9


def test_processes_of_a_run_share_the_free_memory_of_their_machine(monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    for name, value in (("_free_in_system", 80), ("_free_in_group", 40), ("_free_in_process", 15), ("_resident", 1)):
        monkeypatch.setattr(memory, name, lambda value=value: value)
    assert memory.free_memory(CPU) == 10
    assert memory.free_memory(CPU, 9) == 8
    monkeypatch.setattr(memory, "_free_in_group", lambda: None)
    assert memory.free_memory(CPU) == 15
    monkeypatch.setattr(memory, "_free_in_process", lambda: None)
    assert memory.free_memory(CPU) == 20


def test_unused_memory_of_cuda_graphs_is_not_free(monkeypatch):
    def segment(device: int, pool: tuple[int, int], total: int, used: int) -> dict:
        return dict(device=device, segment_pool_id=pool, total_size=total, allocated_size=used)

    segments = [segment(0, (0, 0), 500, 100), segment(0, (0, 1), 90, 20), segment(1, (0, 1), 70, 0)]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 5000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 590)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 120)
    monkeypatch.setattr(torch.cuda, "memory_snapshot", lambda: segments)
    assert memory.free_memory(torch.device("cuda", 0)) == 1000 + 400
    assert memory.free_memory(torch.device("cuda", 0), 300) == 300 - 120 - 70


def test_the_limits_of_this_system_can_be_read():
    free = memory.free_memory(CPU)
    assert 2**20 < free < 2**50
    assert 2**20 < memory._resident() < free


def write_limit(group: Path, names: tuple[str, str, str], maximum: str, used: int, cache: int = 0) -> None:
    group.mkdir(parents=True, exist_ok=True)
    (group / names[0]).write_text(f"{maximum}\n")
    (group / names[1]).write_text(f"{used}\n")
    (group / "memory.stat").write_text(f"anon 200\n{names[2]} {cache}\n")


@pytest.mark.parametrize(
    ("line", "root", "names"),
    [
        ("0::", "", ("memory.max", "memory.current", "inactive_file")),
        ("4:memory:", "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")),
    ],
)
def test_the_limits_of_nested_control_groups_are_read(tmp_path, line, root, names):
    """Slurm and systemd put each job into its own group inside other groups."""
    assert memory._free_in_group(tmp_path) is None
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(f"3:cpuset:/\n{line}/slurm/job_7\n")
    top = tmp_path / "sys/fs/cgroup" / root
    assert memory._free_in_group(tmp_path) is None
    write_limit(top / "slurm", names, "max", 300)
    assert memory._free_in_group(tmp_path) is None
    write_limit(top, names, "1000", 300, 100)  # a container sees its own group here
    assert memory._free_in_group(tmp_path) == 1000 - 300 + 100
    write_limit(top / "slurm" / "job_7", names, "400", 250)
    assert memory._free_in_group(tmp_path) == 400 - 250


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_ulimit_counts(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (2**50, 2**50))
    assert 2**49 < memory._free_in_process() < 2**50
    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY,) * 2)
    assert memory._free_in_process() is None
