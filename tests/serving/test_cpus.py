import os
from pathlib import Path

import pytest

from facegen.serving.onnx.cpus import available_cpu_count


@pytest.mark.parametrize(
    ("files", "most"),
    [
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"own": "0::/a/b\n", "a/b/cpu.max": "max 100000\n", "a/cpu.max": "1000 100000\n"}, 1),
        ({"own": "0::/a/b\n", "a/b/cpu.max": "100000 100000\n"}, 1),
        ({"own": "0::/not/seen/here\n", "cpu.max": "100000 100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, 10_000),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 10_000),
        ({}, 10_000),
    ],
)
def test_threads_respect_the_quota_of_the_container(
    tmp_path: Path, files: dict[str, str], most: int
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    count = available_cpu_count(cgroup_root=tmp_path, own_cgroup=tmp_path / "own")

    assert count == min(most, len(os.sched_getaffinity(0)))
