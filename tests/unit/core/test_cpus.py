"""The CPU limit of a container, as the kernel tells it."""

import pytest

from gateway.core.cpus import V1_PERIOD, V1_QUOTA, V2, cpu_limit


def write(root, path, text):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


@pytest.mark.parametrize(
    ("told", "limit"),
    [("100000 100000", 1), ("150000 100000", 2), ("50000 100000", 1), ("max 100000", None), ("", None)],
)
def test_version_2_tells_quota_and_period(tmp_path, told, limit):
    write(tmp_path, V2, f"{told}\n")
    assert cpu_limit(tmp_path) == limit


@pytest.mark.parametrize(("quota", "limit"), [("400000", 4), ("-1", None), ("0", None), ("x", None)])
def test_version_1_tells_them_in_two_files(tmp_path, quota, limit):
    write(tmp_path, V1_QUOTA, f"{quota}\n")
    write(tmp_path, V1_PERIOD, "100000\n")
    assert cpu_limit(tmp_path) == limit


def test_where_nobody_tells_there_is_no_limit(tmp_path):
    assert cpu_limit(tmp_path) is None
