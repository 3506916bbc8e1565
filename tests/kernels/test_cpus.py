"""The default number of threads: affinity and the quotas of Linux control groups."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from math import inf
from pathlib import Path

import pytest

from qora_vision import _core

V1 = "33 25 0:29 / /sys/fs/cgroup/{name} rw,relatime shared:9 - cgroup cgroup rw,{name}\n"
V2 = "34 25 0:30 {root} /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n"

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="control groups are Linux's")


def system(root: Path, mounts: str, groups: str, files: dict[str, str]) -> str:
    """Write the files that describe a system below `root`; return its name."""
    files = {"proc/self/mountinfo": mounts, "proc/self/cgroup": groups} | {
        f"sys/fs/cgroup/{name}": text for name, text in files.items()
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return str(root)


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("max 100000", inf), ("50000 100000", 0.5), ("150000 100000", 1.5), ("400000 50000", 8), ("", inf)],
)
def test_quota_of_version_2(tmp_path: Path, text: str, cpus: float) -> None:
    root = system(tmp_path, V2.format(root="/"), "0::/a/b\n", {"a/b/cpu.max": text})
    assert _core.quota_cpus(root) == cpus


@pytest.mark.parametrize(("quota", "cpus"), [("-1", inf), ("50000", 0.5), ("250000", 2.5)])
@pytest.mark.parametrize("name", ["cpu", "cpu,cpuacct"])
def test_quota_of_version_1(tmp_path: Path, name: str, quota: str, cpus: float) -> None:
    folder = f"{name}/job"
    files = {f"{folder}/cpu.cfs_quota_us": quota, f"{folder}/cpu.cfs_period_us": "100000"}
    mounts = V1.format(name="memory") + V1.format(name=name)
    root = system(tmp_path, mounts, f"5:memory:/x\n4:{name}:/job\n0::/\n", files)
    assert _core.quota_cpus(root) == cpus


def test_the_least_quota_of_all_groups_above_holds(tmp_path: Path) -> None:
    files = {"cpu.max": "max 100000", "a/cpu.max": "200000 100000", "a/b/cpu.max": "300000 100000"}
    assert _core.quota_cpus(system(tmp_path, V2.format(root="/"), "0::/a/b\n", files)) == 2


@pytest.mark.parametrize(
    ("mounted", "group"), [("/pod/box", "/pod/box"), ("/", "/pod/box"), ("/", "/../x"), ("/", "/")]
)
def test_a_container_sees_its_quota_at_the_mount_point(tmp_path: Path, mounted: str, group: str) -> None:
    root = system(tmp_path, V2.format(root=mounted), f"0::{group}\n", {"cpu.max": "70000 100000"})
    assert _core.quota_cpus(root) == 0.7


@pytest.mark.parametrize("mounts", ["", "no mount\n", V1.format(name="memory"), "1 2 - \n"])
def test_without_cpu_groups_there_is_no_quota(tmp_path: Path, mounts: str) -> None:
    assert _core.quota_cpus(system(tmp_path, mounts, "0::/\n", {"cpu.max": "1 100"})) == inf


def test_a_system_without_control_groups_has_no_quota(tmp_path: Path) -> None:
    assert _core.quota_cpus(str(tmp_path)) == inf


def default_threads(before: str = "") -> int:
    """Return the threads that a new process would use, which runs a line of Python first."""
    code = f"import os\n{before}\nfrom qora_vision import _core\nprint(_core.num_threads())"
    unset = ("QORA_VISION_NUM_THREADS", "OMP_NUM_THREADS")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    return int(subprocess.check_output([sys.executable, "-c", code], env=environment, timeout=60))


@linux
def test_affinity_limits_the_default() -> None:
    assert default_threads("os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])") == 1


@pytest.fixture
def real_group() -> Iterator[Path]:
    """A new control group of version 1 that limits CPU time."""
    folder = Path(f"/sys/fs/cgroup/cpu/qora-vision-test-{os.getpid()}")
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no control group of version 1 can be made: {error}")
    yield folder
    folder.rmdir()


@linux
@pytest.mark.parametrize(("quota", "threads"), [(50_000, 1), (100_000, 1), (110_000, 2)])
def test_a_real_quota_limits_the_default(real_group: Path, quota: int, threads: int) -> None:
    (real_group / "cpu.cfs_quota_us").write_text(str(quota))
    enter = f"open('{real_group}/cgroup.procs', 'w').write(str(os.getpid()))"
    assert default_threads(enter) == min(threads, len(os.sched_getaffinity(0)))
