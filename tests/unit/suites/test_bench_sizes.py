"""The bench's memory sizes: their shares of a CPU, the groups that hold a process to one, and what is recommended."""

import asyncio
import re
import shutil
from pathlib import Path

import pytest

from bench.chapters import Bench
from bench.measures.cpu_share import Groups, NoGroupsError, cpu_share, find_groups, group_name, quota_us, share
from bench.measures.sizes import SIZES, Size, default_size, memory_sizes, recommended
from bench.processes import Surroundings
from bench.runtime_api import AwsStandIn
from bench.targets import HttpTarget
from bench.units import proxy_usd

SCALE = (Path(__file__).parents[3] / "docs" / "scale.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("megabytes", "part", "quota"),
    [(128, 0.0724, 1447), (256, 0.1447, 2894), (512, 0.2894, 5789), (1769, 1.0, 20_000), (3538, 2.0, 40_000)],
)
def test_a_size_has_its_share_of_a_cpu(megabytes: int, part: float, quota: int) -> None:
    assert share(megabytes) == pytest.approx(part, abs=0.0001)
    assert quota_us(megabytes) == quota


def version_1(root: Path) -> Path:
    (root / "cpu").mkdir()
    (root / "cpu" / "cpu.cfs_quota_us").write_text("-1")
    return root / "cpu"


def version_2(root: Path, controllers: str = "cpuset cpu io\n", handed_on: str = "") -> Path:
    (root / "cgroup.controllers").write_text(controllers)
    (root / "cgroup.subtree_control").write_text(handed_on)
    return root


def contents(groups: Groups, megabytes: int, *processes: int) -> dict[str, str]:
    """What is written into a group."""
    with cpu_share(groups, megabytes, shutil.rmtree) as join:
        for process in processes:
            join(process)
        folder = groups.folder / group_name(megabytes)
        return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_group_of_version_1(tmp_path: Path) -> None:
    folder = version_1(tmp_path)
    groups = find_groups(tmp_path)
    assert groups == Groups(folder, 1)
    assert contents(groups, 128, 4711) == {
        "cpu.cfs_period_us": "20000",
        "cpu.cfs_quota_us": "1447",
        "cgroup.procs": "4711",
    }


def test_a_group_of_version_2(tmp_path: Path) -> None:
    groups = find_groups(version_2(tmp_path))
    assert groups == Groups(tmp_path, 2)
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+cpu"
    assert contents(groups, 1769, 4711) == {"cpu.max": "20000 20000", "cgroup.procs": "4711"}


def test_what_is_handed_on_already_is_not_asked_for(tmp_path: Path) -> None:
    find_groups(version_2(tmp_path, handed_on="memory cpu"))
    assert (tmp_path / "cgroup.subtree_control").read_text() == "memory cpu"


def test_where_version_1_has_the_cpu_version_2_is_left_alone(tmp_path: Path) -> None:
    folder = version_1(version_2(tmp_path))
    assert find_groups(tmp_path) == Groups(folder, 1)
    assert (tmp_path / "cgroup.subtree_control").read_text() == ""


def test_no_process_is_put_into_a_group_that_nobody_joined(tmp_path: Path) -> None:
    version_1(tmp_path)
    assert "cgroup.procs" not in contents(find_groups(tmp_path), 256)


@pytest.mark.parametrize("controllers", ["", "cpuset io", "cpuset"])
def test_without_a_cpu_controller_no_share_can_be_given(controllers: str, tmp_path: Path) -> None:
    version_2(tmp_path, controllers)
    with pytest.raises(NoGroupsError, match="have no `cpu` controller"):
        find_groups(tmp_path)


def test_without_cgroups_no_share_can_be_given(tmp_path: Path) -> None:
    with pytest.raises(NoGroupsError, match="cannot be used"):
        find_groups(tmp_path / "nothing")


def test_a_controller_that_is_not_handed_on_can_give_no_share(tmp_path: Path) -> None:
    version_2(tmp_path)
    (tmp_path / "cgroup.subtree_control").unlink()
    with pytest.raises(NoGroupsError, match="cannot be used"):
        find_groups(tmp_path)


def test_a_group_that_cannot_be_made(tmp_path: Path) -> None:
    folder = version_1(tmp_path)
    (folder / group_name(256)).write_text("")
    with pytest.raises(NoGroupsError, match="no group can be made"), cpu_share(find_groups(tmp_path), 256):
        pytest.fail("there is no group")


def test_a_group_is_removed_when_all_went_well(tmp_path: Path) -> None:
    folder = version_1(tmp_path)
    contents(find_groups(tmp_path), 512)
    assert [path.name for path in folder.iterdir()] == ["cpu.cfs_quota_us"]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_group_is_removed_whatever_happens(failure: type[BaseException], tmp_path: Path) -> None:
    folder = version_1(tmp_path)
    with pytest.raises(failure), cpu_share(find_groups(tmp_path), 512, shutil.rmtree):
        raise failure
    assert [path.name for path in folder.iterdir()] == ["cpu.cfs_quota_us"]


def test_a_group_that_takes_no_quota_is_removed(tmp_path: Path) -> None:
    folder = version_1(tmp_path)

    class NoQuota(Groups):
        def settings(self, megabytes: int) -> dict[str, str]:
            return {"no/such/file": str(megabytes)}

    with pytest.raises(NoGroupsError, match="takes no quota"), cpu_share(NoQuota(folder, 1), 512):
        pytest.fail("there is no quota")
    assert [path.name for path in folder.iterdir()] == ["cpu.cfs_quota_us"]


def test_a_group_that_takes_no_process_is_removed(tmp_path: Path) -> None:
    folder = version_1(tmp_path)
    with cpu_share(find_groups(tmp_path), 512, shutil.rmtree) as join:
        (folder / group_name(512) / "cgroup.procs").mkdir()
        with pytest.raises(NoGroupsError, match="takes no process"):
            join(4711)
    assert [path.name for path in folder.iterdir()] == ["cpu.cfs_quota_us"]


def test_a_group_that_is_busy_is_removed_when_it_no_longer_is(tmp_path: Path) -> None:
    folder, refusals = version_1(tmp_path), iter([True, True])

    def remove(group: Path) -> None:
        if next(refusals, False):
            raise OSError(16, "Device or resource busy")
        shutil.rmtree(group)

    with cpu_share(find_groups(tmp_path), 512, remove):
        pass
    assert [path.name for path in folder.iterdir()] == ["cpu.cfs_quota_us"]


def test_where_no_share_can_be_given_the_chapter_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    around = Surroundings("127.0.0.1:9", "127.0.0.1:9", tmp_path / "servers.yaml", "python3", tmp_path)
    bench = Bench(around, AwsStandIn(), HttpTarget("no proxy", None, 9), 1.0)
    assert asyncio.run(memory_sizes(bench, tmp_path / "nothing")) == []
    assert "The memory sizes are not measured, and have no figures: the cgroups in" in capsys.readouterr().out


def size(megabytes: int, **measured: float) -> Size:
    figures = {
        "init": 200.0,
        "first": 5.0,
        "handshakes": 0.0,
        "idle": 25.0,
        "streams": 25.0,
        "peak": 45.0,
        "byte": 1.0,
        "chunk": 0.1,
    }
    return Size(megabytes, **(figures | {"extra": 0.0} | measured))


def test_the_cheapest_size_is_recommended() -> None:
    assert recommended([size(megabytes) for megabytes in SIZES]).megabytes == 128


@pytest.mark.parametrize(
    "measured", [{"first": 106.0}, {"handshakes": 101.0}, {"byte": 22.0}, {"chunk": 21.0}, {"peak": 70.0}]
)
def test_a_size_that_goes_beyond_a_bound_is_not_recommended(measured: dict[str, float]) -> None:
    assert recommended([size(128, **measured), size(256), size(1769)]).megabytes == 256


def test_where_no_size_keeps_to_the_bounds_the_largest_is_recommended() -> None:
    assert recommended([size(128, chunk=90.0), size(256, chunk=90.0), size(1769, peak=900.0)]).megabytes == 1769


def test_what_an_invocation_lasts_longer_is_paid_for() -> None:
    assert size(256).usd == proxy_usd(10.0, 256)
    assert size(256, extra=1.0).usd == proxy_usd(11.0, 256)


def test_the_default_size_is_the_one_of_the_templates_parameter() -> None:
    assert default_size() in SIZES
    assert f"Streams of 10 seconds at {default_size()} MB" in SCALE


def test_the_price_is_the_one_of_the_page() -> None:
    parts = [re.search(rf"^\| proxy: {name}.* ([\d.]+) \|$", SCALE, re.MULTILINE) for name in ("invocation", "GB-s")]
    said = sum(float(part[1]) for part in parts if part)
    assert proxy_usd(10.0, 256) == pytest.approx(said, abs=0.01)
    assert f"Half a second costs ${proxy_usd(0.5, 256):.2f} a million, 60 seconds ${proxy_usd(60, 256):.2f}" in SCALE


def test_the_prices_of_the_sizes_are_computed_from_what_was_measured() -> None:
    found = re.findall(r"^\| (\d+)[^|]*\| [\d.]+ % \| ([\d.]+) \| ([\d.]+) \|", SCALE, re.MULTILINE)
    assert [int(megabytes) for megabytes, _, _ in found] == list(SIZES)
    for megabytes, extra, usd in found:
        assert size(int(megabytes), extra=float(extra) / 1000).usd == pytest.approx(float(usd), abs=0.006)
    assert f"| {default_size()}, the default |" in SCALE
