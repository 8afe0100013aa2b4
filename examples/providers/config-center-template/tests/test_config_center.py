"""What only this engine has: outages, several writers, history. Keep the questions for yours."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from config_center_template import JsonFolderConfigCenter
from microservice_core import (
    ConfigCenterError,
    ConfigCenterUnavailableError,
    ConfigConflictError,
    ConfigDeleted,
    ConfigNotFoundError,
    ConfigResult,
    InvalidValueError,
    md5_of,
)
from microservice_core.testing import ManualClock, Recorder, eventually

State = ConfigResult | ConfigDeleted


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def center(tmp_path: Path, clock: ManualClock) -> AsyncIterator[JsonFolderConfigCenter]:
    center = JsonFolderConfigCenter(tmp_path / "documents", sleep=clock.sleep)
    (tmp_path / "documents").mkdir()
    yield center
    await center.close()


async def look(clock: ManualClock) -> None:
    """Let a poll take place: its time comes, and it sleeps again."""

    async def sleeping() -> int:
        await asyncio.sleep(0)
        return clock.sleepers

    await eventually(sleeping, lambda sleepers: sleepers == 1)
    clock.advance(1.0)
    await eventually(sleeping, lambda sleepers: sleepers == 1)


async def test_a_change_is_told_at_the_next_look(
    center: JsonFolderConfigCenter, clock: ManualClock
) -> None:
    states: list[State] = []
    center.watch_config("app.yaml", states.append)
    await look(clock)
    await center.publish_config("app.yaml", "a: 1")
    assert len(states) == 1
    await look(clock)
    assert [isinstance(state, ConfigDeleted) for state in states] == [True, False]


async def test_a_folder_that_vanishes_is_an_outage_and_deletes_nothing(
    center: JsonFolderConfigCenter,
    clock: ManualClock,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await center.publish_config("app.yaml", "a: 1")
    states: list[State] = []
    center.watch_config("app.yaml", states.append)
    await look(clock)
    (tmp_path / "documents").rename(tmp_path / "away")
    with caplog.at_level(logging.WARNING, logger="config_center_template"):
        for _ in range(3):
            await look(clock)
    assert len(states) == 1
    assert len(caplog.records) == 1  # said once, not at each look
    with pytest.raises(ConfigCenterUnavailableError, match="mount it") as caught:
        await center.get_config("app.yaml")
    assert caught.value.retryable
    (tmp_path / "away").rename(tmp_path / "documents")
    await center.publish_config("app.yaml", "a: 2")
    await look(clock)
    assert isinstance(states[-1], ConfigResult)
    assert states[-1].content == "a: 2"


async def test_a_file_that_is_none_of_ours_keeps_the_last_good_version(
    center: JsonFolderConfigCenter, clock: ManualClock, tmp_path: Path
) -> None:
    await center.publish_config("app.yaml", "a: 1")
    states: list[State] = []
    center.watch_config("app.yaml", states.append)
    await look(clock)
    (version,) = (tmp_path / "documents").rglob("*.json")
    version.with_name("0000000002.json").write_text("garbage s3cret")
    await look(clock)
    assert len(states) == 1
    with pytest.raises(ConfigCenterError, match="publish it again") as caught:
        await center.get_config("app.yaml")
    assert "s3cret" not in str(caught.value)


async def test_an_unchanged_document_is_not_read_again(
    center: JsonFolderConfigCenter,
    clock: ManualClock,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await center.publish_config("app.yaml", "a: 1")
    center.watch_config("app.yaml", print)
    await look(clock)
    (version,) = (tmp_path / "documents").rglob("*.json")
    version.write_text("who reads this complains")
    await look(clock)
    assert not caplog.records


async def test_of_many_who_publish_at_once_nobody_is_lost(
    center: JsonFolderConfigCenter, tmp_path: Path
) -> None:
    other = JsonFolderConfigCenter(tmp_path / "documents")
    await asyncio.gather(
        *((center, other)[n % 2].publish_config("app.yaml", f"a: {n}") for n in range(10))
    )
    versions = await center.config_versions("app.yaml")
    assert sorted(version.md5 for version in versions) == sorted(
        md5_of(f"a: {n}") for n in range(10)
    )
    await other.close()


async def test_of_two_who_publish_on_top_of_the_same_version_one_is_refused(
    center: JsonFolderConfigCenter,
) -> None:
    await center.publish_config("app.yaml", "a: 1", expected_md5="")
    md5 = (await center.get_config("app.yaml")).md5
    outcomes = await asyncio.gather(
        *(center.publish_config("app.yaml", f"a: {n}", expected_md5=md5) for n in (2, 3)),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes if outcome] == [ConfigConflictError]


async def test_history_is_bounded_and_a_version_of_it_can_be_restored(
    center: JsonFolderConfigCenter, tmp_path: Path
) -> None:
    for n in range(25):
        await center.publish_config("app.yaml", f"a: {n}")
    versions = await center.config_versions("app.yaml")
    assert [version.version_id for version in versions] == [str(n) for n in range(25, 5, -1)]
    assert len(list((tmp_path / "documents").rglob("*.json"))) == 20
    await center.delete_config("app.yaml")
    await center.restore_config("app.yaml", "21")
    assert (await center.get_config("app.yaml")).content == "a: 20"
    with pytest.raises(ConfigNotFoundError, match="version 1"):
        await center.restore_config("app.yaml", "1")


async def test_groups_and_namespaces_are_apart(center: JsonFolderConfigCenter) -> None:
    for where in (("", ""), ("g", ""), ("", "n"), ("g", "n")):
        await center.publish_config("a.txt", str(where), *where)
    for where in (("", ""), ("g", ""), ("", "n"), ("g", "n")):
        assert (await center.get_config("a.txt", *where)).content == str(where)


@pytest.mark.parametrize("name", ["..", "../up", "a/b", "C:\\x", ".hidden", "名字", "a b"])
async def test_no_name_leaves_the_folder(
    center: JsonFolderConfigCenter, tmp_path: Path, name: str
) -> None:
    await center.publish_config(name, "x", name, name)
    assert (await center.get_config(name, name, name)).content == "x"
    assert os.listdir(tmp_path) == ["documents"]  # noqa: PTH208


@pytest.mark.parametrize(("name", "field"), [("", "data_id"), ("名" * 100, "data_id")])
async def test_an_impossible_name_is_refused_at_once(
    center: JsonFolderConfigCenter, name: str, field: str
) -> None:
    with pytest.raises(InvalidValueError, match=field):
        await center.publish_config(name, "x")
    with pytest.raises(InvalidValueError, match=field):
        center.watch_config(name, print)


async def test_a_document_that_is_too_large_is_refused_without_being_shown(
    center: JsonFolderConfigCenter, tmp_path: Path
) -> None:
    with pytest.raises(InvalidValueError, match="content must be at most 10485760 bytes") as caught:
        await center.publish_config("app.yaml", "x" * (10 * 1024 * 1024 + 1))
    assert "xxx" not in str(caught.value)
    await center.publish_config("app.yaml", "\0" * (10 * 1024 * 1024))
    assert (await center.get_config("app.yaml")).content.strip("\0") == ""
    (version,) = (tmp_path / "documents").rglob("*.json")
    large = version.with_name("0000000002.json")
    large.touch()
    os.truncate(large, 80 * 1024 * 1024 + 1)
    with pytest.raises(ConfigCenterError, match=r"\(ValueError\); publish it again"):
        await center.get_config("app.yaml")


async def test_two_listeners_share_one_follower_and_the_last_one_ends_it(
    center: JsonFolderConfigCenter, clock: ManualClock
) -> None:
    stop = center.watch_config("app.yaml", Recorder[State]())
    await look(clock)
    late: Recorder[State] = Recorder()
    stop_late = center.watch_config("app.yaml", late)
    await late.wait_for(lambda state: isinstance(state, ConfigDeleted))
    assert clock.sleepers == 1
    stop()
    stop_late()
    await asyncio.sleep(0)
    assert clock.sleepers == 0


async def test_a_closed_center_says_so(center: JsonFolderConfigCenter) -> None:
    center.watch_config("app.yaml", print)
    await center.close()
    with pytest.raises(ConfigCenterError, match="it is closed"):
        await center.get_config("app.yaml")
