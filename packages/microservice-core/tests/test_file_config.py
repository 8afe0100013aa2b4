import asyncio
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from microservice_core import (
    ConfigCenter,
    ConfigCenterError,
    ConfigCenterUnavailableError,
    ConfigDeleted,
    ConfigNotFoundError,
    ConfigResult,
    FileConfigCenter,
    InvalidValueError,
    open_config_center,
)
from microservice_core.testing import ConfigCenterContract, ManualClock, Recorder

State = ConfigResult | ConfigDeleted


def replace_file(path: Path, content: str) -> None:
    """Write as careful programs do: elsewhere first, then rename."""
    draft = path.with_name(f"{path.name}.draft")
    draft.write_text(content, encoding="utf-8")
    draft.replace(path)


class TestFileConfigCenter(ConfigCenterContract):
    @pytest.fixture
    async def center(self, tmp_path: Path) -> AsyncIterator[FileConfigCenter]:
        self.folder = tmp_path
        center = FileConfigCenter(tmp_path, poll_seconds=0.01)
        yield center
        await center.close()

    async def publish(self, center: ConfigCenter, data_id: str, content: str) -> None:
        replace_file(self.folder / data_id, content)

    async def remove(self, center: ConfigCenter, data_id: str) -> None:
        (self.folder / data_id).unlink()


class Watch:
    """A watched `app.yaml`, and the clock by which it is polled."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "app.yaml"
        self.clock = ManualClock()
        self.center = FileConfigCenter(folder, poll_seconds=1.0, sleep=self.clock.sleep)
        self.contents: list[str | None] = []

    def start(self) -> None:
        self.unsubscribe = self.center.watch_config("app.yaml", self._listen)

    def _listen(self, state: State) -> None:
        self.contents.append(None if isinstance(state, ConfigDeleted) else state.content)

    async def poll(self, times: int = 1) -> None:
        await self.clock.run(times)


@pytest.fixture
async def watch(tmp_path: Path) -> AsyncIterator[Watch]:
    watch = Watch(tmp_path)
    watch.path.write_text("a: 1")
    watch.start()
    await watch.poll()
    yield watch
    await watch.center.close()


async def test_a_replaced_file_takes_effect_at_the_next_poll(watch: Watch) -> None:
    replace_file(watch.path, "a: 2")
    await watch.poll()
    assert watch.contents == ["a: 1", "a: 2"]


async def test_a_file_written_in_place_takes_effect_once_it_no_longer_changes(watch: Watch) -> None:
    with watch.path.open("w") as file:
        for part in ("a: ", "2", "2"):
            file.write(part)
            file.flush()
            await watch.poll()
    assert watch.contents == ["a: 1"]
    await watch.poll()
    assert watch.contents == ["a: 1", "a: 22"]


async def test_a_deletion_takes_effect_at_the_second_poll(watch: Watch) -> None:
    watch.path.unlink()
    await watch.poll()
    assert watch.contents == ["a: 1"]
    await watch.poll()
    assert watch.contents == ["a: 1", None]


async def test_an_editor_that_deletes_and_writes_again_causes_no_deletion(watch: Watch) -> None:
    watch.path.unlink()
    await watch.poll()
    watch.path.write_text("a: 2")
    await watch.poll(2)
    assert watch.contents == ["a: 1", "a: 2"]


async def test_a_touched_file_with_the_same_content_is_no_change(watch: Watch) -> None:
    os.utime(watch.path, (1, 1))
    await watch.poll(3)
    assert watch.contents == ["a: 1"]


async def test_a_file_that_is_not_utf8_keeps_the_last_good_version(
    watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    watch.path.write_bytes(b"a: \xff\xfe")
    with caplog.at_level(logging.WARNING, logger="microservice_core.file"):
        await watch.poll(5)
    assert watch.contents == ["a: 1"]
    (record,) = caplog.records
    assert "is not UTF-8 (byte 3)" in record.message
    replace_file(watch.path, "a: 2")
    await watch.poll()
    assert watch.contents == ["a: 1", "a: 2"]


async def test_a_document_that_is_created_later_is_notified(tmp_path: Path) -> None:
    watch = Watch(tmp_path / "later")
    watch.start()
    await watch.poll()
    watch.path.parent.mkdir()
    watch.path.write_text("a: 1")
    await watch.poll(2)
    assert watch.contents == [None, "a: 1"]
    await watch.center.close()


async def test_a_document_that_is_unreadable_at_first_is_notified_when_it_is_readable(
    tmp_path: Path,
) -> None:
    watch = Watch(tmp_path)
    watch.path.write_bytes(b"\xff")
    watch.start()
    await watch.poll()
    assert watch.contents == []
    watch.path.write_text("a: 1")
    await watch.poll(2)
    assert watch.contents == ["a: 1"]
    await watch.center.close()


async def test_files_are_still_polled_after_a_poll_has_failed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watch = Watch(tmp_path)
    failures = iter([RuntimeError("broken on purpose")])

    async def sleep(seconds: float) -> None:
        for error in failures:
            raise error
        await watch.clock.sleep(seconds)

    watch.center = FileConfigCenter(tmp_path, poll_seconds=1.0, sleep=sleep)
    watch.start()
    await watch.poll(2)
    watch.path.write_text("a: 1")
    await watch.poll(2)
    assert watch.contents == [None, "a: 1"]
    assert "task 'poll' failed; restarting it" in caplog.text
    await watch.center.close()


async def test_a_watch_ended_and_begun_again_starts_from_the_present(watch: Watch) -> None:
    watch.unsubscribe()
    await watch.poll()
    replace_file(watch.path, "a: 2")
    watch.start()
    await watch.poll(2)
    assert watch.contents == ["a: 1", "a: 2"]


async def test_groups_and_namespaces_are_folders(tmp_path: Path) -> None:
    center = FileConfigCenter(tmp_path)
    for folder in ("", "g", "n/DEFAULT_GROUP", "n/g"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "a.txt").write_text(folder)
    read = [
        (await center.get_config("a.txt", group, namespace)).content
        for group, namespace in (("", ""), ("g", ""), ("", "n"), ("g", "n"))
    ]
    assert read == ["", "g", "n/DEFAULT_GROUP", "n/g"]


@pytest.mark.parametrize("name", ["../secret", "..", ".hidden", "a/b", "a\\b", "a\0b"])
@pytest.mark.parametrize("field", ["data_id", "group_name", "namespace_id"])
async def test_a_name_that_could_leave_the_folder_is_refused(
    tmp_path: Path, field: str, name: str
) -> None:
    names = {"data_id": "a.txt", "group_name": "", "namespace_id": "", field: name}
    center = FileConfigCenter(tmp_path)
    with pytest.raises(InvalidValueError, match=f"{field} must be letters"):
        await center.get_config(**names)
    with pytest.raises(InvalidValueError, match=f"{field} must be letters"):
        center.watch_config(listener=print, **names)


async def test_an_empty_data_id_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="data_id must be"):
        await FileConfigCenter(tmp_path).get_config("")


async def test_a_missing_document_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigNotFoundError, match=str(tmp_path)):
        await FileConfigCenter(tmp_path).get_config("app.yaml")


async def test_a_folder_in_the_place_of_a_document_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "app.yaml").mkdir()
    with pytest.raises(ConfigCenterUnavailableError, match="cannot be read"):
        await FileConfigCenter(tmp_path).get_config("app.yaml")


async def test_a_document_above_the_limit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "app.yaml").write_bytes(b"a" * (10 * 1024 * 1024 + 1))
    with pytest.raises(ConfigCenterError, match="larger than 10 MiB"):
        await FileConfigCenter(tmp_path).get_config("app.yaml")


async def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    (tmp_path / "app.yaml").write_bytes(b"\xef\xbb\xbfa: 1")
    assert (await FileConfigCenter(tmp_path).get_config("app.yaml")).content == "a: 1"


async def test_the_provider_opens_by_name(tmp_path: Path) -> None:
    (tmp_path / "app.yaml").write_text("a: 1")
    async with open_config_center("file", {"folder": str(tmp_path)}) as center:
        assert (await center.get_config("app.yaml")).content == "a: 1"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "folder must be the path of a folder of documents, not None"),
        ({"folder": "x", "poll_seconds": "1"}, "poll_seconds must be a number above 0"),
        ({"folder": "x", "poll_seconds": 0}, "poll_seconds must be a number above 0"),
        ({"path": "x"}, "must be one of folder, poll_seconds, not 'path'"),
    ],
)
async def test_a_wrong_setting_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        async with open_config_center("file", settings):
            pass


async def test_watches_that_end_at_once_leave_nothing_behind(tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    center = FileConfigCenter(tmp_path, poll_seconds=0.01)
    for _ in range(100):
        center.watch_config("a.yaml", lambda _: None)()
    left = asyncio.all_tasks() - before
    if left:
        await asyncio.wait(left, timeout=10)
    assert asyncio.all_tasks() - before == set()
    recorder: Recorder[State] = Recorder()
    center.watch_config("a.yaml", recorder)  # and a later one is served
    (tmp_path / "a.yaml").write_text("a: 1")
    await recorder.wait_for(lambda state: isinstance(state, ConfigResult), within_seconds=10)
    await center.close()
