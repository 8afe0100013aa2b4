import asyncio
import json
import logging
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from microservice_core import (
    ConfigCenterAccessDeniedError,
    ConfigCenterUnavailableError,
    ConfigResult,
    InMemoryConfigCenter,
    InvalidValueError,
)
from microservice_core.testing.clock import settle
from microservice_kit import ConfigService, MicroserviceModule
from microservice_kit.config.documents import (
    ConfigSnapshot,
    DocumentId,
    DocumentReader,
    add_profiles,
)
from microservice_kit.module import AnyConfig

WHERE = DocumentId("a.json")


class Settings(AnyConfig):
    pool: int = 5


class Outage(InMemoryConfigCenter):
    """A center that refuses reads until `back` is set; watches come alive with it."""

    def __init__(self, documents: dict[str, str], *, denied: bool = False) -> None:
        super().__init__(documents)
        self.back = asyncio.Event()
        self.denied = denied
        self.reads = 0

    async def get_config(
        self, data_id: str, group_name: str = "", namespace_id: str = ""
    ) -> ConfigResult:
        self.reads += 1
        if not self.back.is_set():
            kind = ConfigCenterAccessDeniedError if self.denied else ConfigCenterUnavailableError
            raise kind(
                "no answer; start it",
                provider="memory",
                operation="get_config",
                target=data_id,
                retryable=not self.denied,
            )
        return await super().get_config(data_id, group_name, namespace_id)

    def watch_config(
        self,
        data_id: str,
        listener: Callable[..., Awaitable[None] | None],
        group_name: str = "",
        namespace_id: str = "",
    ) -> Callable[[], None]:
        stops: list[Callable[[], None]] = []

        async def begin() -> None:
            await self.back.wait()
            watch = super(Outage, self).watch_config
            stops.append(watch(data_id, listener, group_name, namespace_id))

        task = asyncio.ensure_future(begin())

        def stop() -> None:
            task.cancel()
            for stop_watch in stops:
                stop_watch()

        return stop


def service_of(
    center: InMemoryConfigCenter, reader: DocumentReader, snapshot: ConfigSnapshot | None = None
) -> ConfigService[Settings]:
    return ConfigService(Settings, center, ["a.json"], reader=reader, snapshot=snapshot)


async def test_by_default_a_center_that_is_down_ends_the_start() -> None:
    center = Outage({})
    with pytest.raises(ConfigCenterUnavailableError, match="no answer; start it"):
        await service_of(center, DocumentReader(center)).open()
    assert center.reads == 1


async def test_waiting_asks_again_with_growing_pauses_until_the_center_is_back() -> None:
    center, pauses = Outage({"a.json": '{"pool": 7}'}), []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 6:
            center.back.set()

    reader = DocumentReader(
        center, on_unavailable="wait", clock=lambda: sum(pauses), sleep=sleep, rng=random.Random(1)
    )
    service = service_of(center, reader)
    await service.open()
    assert service.current.pool == 7
    assert [
        round(pause / longest, 3) <= 1.0
        for pause, longest in zip(pauses, (0.5, 1, 2, 4, 8, 10), strict=True)
    ] == [True] * 6
    assert min(pauses) > 0.2
    await service.close()


async def test_waiting_ends_in_time() -> None:
    center, pauses = Outage({}), []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    reader = DocumentReader(
        center, on_unavailable="wait", wait_seconds=20, clock=lambda: sum(pauses), sleep=sleep
    )
    with pytest.raises(ConfigCenterUnavailableError):
        await service_of(center, reader).open()
    assert 5 < sum(pauses) < 20


@pytest.mark.parametrize("policy", ["fail", "wait", "degrade"])
async def test_a_refusal_is_an_error_under_every_policy(policy: str) -> None:
    center = Outage({}, denied=True)
    reader = DocumentReader(center, on_unavailable=policy)  # type: ignore[arg-type]
    with pytest.raises(ConfigCenterAccessDeniedError):
        await service_of(center, reader).open()
    assert center.reads == 1


async def test_without_a_snapshot_degrading_starts_with_defaults_and_heals() -> None:
    center = Outage({"a.json": '{"pool": 7}'})
    service = service_of(center, DocumentReader(center, on_unavailable="degrade"))
    await service.open()
    assert (service.current.pool, service.version.origin, service.degraded) == (5, "defaults", True)
    center.back.set()
    await settle()
    assert (service.current.pool, service.version.origin, service.degraded) == (7, "center", False)
    await service.close()


async def test_degrading_starts_with_the_snapshot_of_an_earlier_run(tmp_path: Path) -> None:
    snapshot = ConfigSnapshot(tmp_path / "kept" / "config.json")
    earlier = InMemoryConfigCenter({"a.json": '{"pool": 6}'})
    first = service_of(earlier, DocumentReader(earlier), snapshot)
    await first.open()
    await earlier.publish_config("a.json", '{"pool": 8}')
    await settle()
    await first.close()

    center = Outage({"a.json": '{"pool": 9}'})
    reader = DocumentReader(center, on_unavailable="degrade", snapshot=snapshot)
    service = service_of(center, reader, snapshot)
    await service.open()
    assert (service.current.pool, service.version.origin) == (8, "snapshot")
    assert snapshot.load()[WHERE].content == '{"pool": 8}'
    center.back.set()
    await settle()
    assert service.current.pool == 9
    assert snapshot.load()[WHERE].content == '{"pool": 9}'
    await service.close()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "[" * 100_000,
        '{"schema": 2, "documents": []}',
        '{"schema": 1, "documents": [1]}',
    ],
    ids=lambda content: content[:20],
)
def test_a_snapshot_that_cannot_be_believed_is_told_and_left_alone(
    content: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "snapshot.json"
    file.write_text(content)
    assert ConfigSnapshot(file).load() == {}
    assert "is not used" in caplog.text
    assert file.read_text() == content


def test_no_snapshot_is_nothing_to_tell(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert ConfigSnapshot(tmp_path / "none").load() == {}
    assert not caplog.records


def test_a_disk_that_does_not_take_the_snapshot_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    snapshot = ConfigSnapshot(tmp_path / "file" / "snapshot.json")
    with caplog.at_level(logging.WARNING):
        snapshot.save({})
        snapshot.save({})
    assert len(caplog.records) == 1


def test_a_snapshot_is_private_and_whole(tmp_path: Path) -> None:
    file = tmp_path / "snapshot.json"
    ConfigSnapshot(file).save({WHERE: ConfigResult("x: 1", "m", None, "yaml", "a.json", "", "")})
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(file.read_text())["schema"] == 1
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("data_ids", "profiles", "expected"),
    [
        (["app.yaml"], [], ("app.yaml",)),
        (["app.yaml"], ["dev"], ("app.yaml", "app-dev.yaml")),
        (
            ["a.b.json", "x"],
            ["dev", "eu"],
            ("a.b.json", "a.b-dev.json", "a.b-eu.json", "x", "x-dev", "x-eu"),
        ),
    ],
)
def test_each_profile_adds_a_variant_behind_its_document(
    data_ids: list[str], profiles: list[str], expected: tuple[str, ...]
) -> None:
    assert add_profiles(data_ids, profiles) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_unavailable": "ignore"}, "on_unavailable must be fail, wait or degrade"),
        ({"wait_seconds": 0}, "wait_seconds must be a number above 0"),
    ],
)
def test_what_a_reader_cannot_do_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        DocumentReader(None, **options)  # type: ignore[arg-type]


async def test_a_module_takes_profiles_and_policy_from_its_settings(tmp_path: Path) -> None:
    center = InMemoryConfigCenter({"app.json": '{"pool": 1}', "app-dev.json": '{"pool": 2}'})
    async with MicroserviceModule(
        config_center=center,
        config=Settings,
        documents=["app.json"],
        profiles=["dev"],
        on_config_unavailable="degrade",
        config_snapshot=tmp_path / "snapshot.json",
    ) as module:
        assert module.config.current.pool == 2
    assert set(ConfigSnapshot(tmp_path / "snapshot.json").load()) == {
        DocumentId("app.json"),
        DocumentId("app-dev.json"),
    }


class AddressedCenter(InMemoryConfigCenter):
    server_address = "10.0.0.1:8848"


@pytest.mark.parametrize(
    ("center", "document_id", "place"),
    [
        (
            AddressedCenter(),
            DocumentId("a.yaml", "orders", "dev"),
            "(group orders, namespace dev, server 10.0.0.1:8848)",
        ),
        (
            InMemoryConfigCenter(),
            DocumentId("a.yaml"),
            "(group the default, namespace the default)",
        ),
    ],
)
async def test_an_absent_document_is_logged_with_the_place_it_was_looked_for(
    center: InMemoryConfigCenter,
    document_id: DocumentId,
    place: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await DocumentReader(center).read(document_id)
    (record,) = caplog.records
    assert record.getMessage().endswith(f"'a.yaml' does not exist yet; using defaults {place}")


async def test_health_names_the_documents_that_are_absent_until_they_come() -> None:
    center = InMemoryConfigCenter()
    async with MicroserviceModule(config_center=center, documents=["a.json", "b.json"]) as module:
        module.health.cache_seconds = 0
        assert (await module.health.check())["config"].detail == "version 1; absent: a.json, b.json"
        await center.publish_config("a.json", '{"a": 1}')
        await center.publish_config("b.json", "{}")
        await settle()
        assert module.config.missing == ()
        assert (await module.health.check())["config"].detail == "version 2"
    async with MicroserviceModule() as module:
        assert module.config.missing == ()
