"""The behaviour of every Nacos server, real or fake: subclass it and provide a `target` fixture.

    class TestOnFake(NacosContract):
        @pytest.fixture
        def target(self) -> Iterator[Target]: ...

Needs pytest and its anyio plugin (extra `testing`). Names are unique per test, and each test removes
what it created, so that a shared server can be used.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from nacos_client import (
    AsyncNacosClient,
    AuthenticationError,
    Config,
    ConfigDeleted,
    ConfigNotFound,
    ConflictError,
    InstanceList,
    InstanceNotFound,
    InvalidArgumentError,
    NacosClient,
    RequestRejectedError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

__all__ = ("ClientContract", "NacosContract", "Target", "collect", "wait_until")

_WAIT_SECONDS = 15.0
GROUP = "contract"
_QUICK_BEATS = {
    "preserved.heart.beat.interval": "500",
    "preserved.heart.beat.timeout": "2000",
    "preserved.ip.delete.timeout": "4000",
}


@dataclass(frozen=True, slots=True)
class Target:
    """The address of a server and its administrator."""

    address: str
    username: str
    password: str


async def wait_until(check: Callable[[], Any], seconds: float = _WAIT_SECONDS) -> Any:
    """The first true outcome of `check`, plain or async; fails the test after so many seconds."""
    ends_at = time.monotonic() + seconds
    while True:
        outcome = check()
        if inspect.isawaitable(outcome):
            outcome = await outcome
        if outcome:
            return outcome
        if time.monotonic() > ends_at:
            pytest.fail(f"not within {seconds} s: {inspect.getsource(check).strip()}")
        await asyncio.sleep(0.02)


class _AwaitableApi:
    """A sync API whose calls can be awaited: one suite for both clients."""

    def __init__(self, api: object) -> None:
        self._api = api

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._api, name)
        if name in {"watch", "subscribe"} or not callable(member):
            return member

        async def call(*arguments: object, **options: object) -> object:
            return await asyncio.to_thread(member, *arguments, **options)

        return call


class _SyncClient:
    """A NacosClient with the interface of an AsyncNacosClient."""

    def __init__(self, client: NacosClient) -> None:
        self.config = _AwaitableApi(client.config)
        self.naming = _AwaitableApi(client.naming)
        self.admin = _AwaitableApi(client.admin)


async def collect(items: Any) -> list[Any]:
    """All items of an iterator of either client."""
    if inspect.isawaitable(items):
        items = await items
    if inspect.isasyncgen(items):
        return [each async for each in items]
    return await asyncio.to_thread(list, items)


class ClientContract:
    """Clients and names for a test; each test runs with the async and with the sync client."""

    @pytest.fixture(params=["async", "sync"])
    async def nacos(self, request: pytest.FixtureRequest, target: Target) -> AsyncIterator[Any]:
        """A client of the administrator that polls quickly."""
        options: dict[str, Any] = {
            "username": target.username,
            "password": target.password,
            "group": GROUP,
            "config_poll_seconds": 0.1,
            "instance_poll_seconds": 0.1,
        }
        if request.param == "async":
            async with AsyncNacosClient(target.address, **options) as client:
                yield client
        else:
            sync_client = NacosClient(target.address, **options)
            yield _SyncClient(sync_client)
            await asyncio.to_thread(sync_client.close)

    @pytest.fixture
    async def data_id(self, nacos: Any) -> AsyncIterator[str]:
        """A data id for one test, removed afterwards."""
        name = f"contract-{uuid.uuid4().hex}.yaml"
        yield name
        await nacos.admin.delete(name)

    @pytest.fixture
    def service(self) -> str:
        """A service name for one test; the server removes empty services by itself."""
        return f"contract-{uuid.uuid4().hex}"


class NacosContract(ClientContract):
    """Configuration, naming and authentication."""

    async def test_a_missing_document_is_config_not_found(self, nacos: Any, data_id: str) -> None:
        with pytest.raises(ConfigNotFound) as caught:
            await nacos.config.get(data_id)
        assert caught.value.code == 20004

    async def test_a_published_document_is_read_with_its_type_time_and_md5(
        self,
        nacos: Any,
        data_id: str,
    ) -> None:
        await nacos.admin.publish(data_id, "greeting: 你好\n")
        config = await wait_until(lambda: _read_config(nacos, data_id))
        assert config.content == "greeting: 你好\n"
        assert config.md5 == "ec65093569c35232997e6f1071dba7d2"
        assert config.content_type == "yaml"
        assert abs(config.last_modified.timestamp() - time.time()) < 60
        assert (config.data_id, config.group, config.namespace) == (data_id, GROUP, "public")
        assert config.source == "server"

    async def test_compare_and_set_lost_is_a_conflict_and_changes_nothing(
        self,
        nacos: Any,
        data_id: str,
    ) -> None:
        await nacos.admin.publish(data_id, "a: 1")
        first = await wait_until(lambda: _read_config(nacos, data_id))
        await nacos.admin.publish(data_id, "a: 2", cas_md5=first.md5)
        with pytest.raises(ConflictError):
            await nacos.admin.publish(data_id, "a: 3", cas_md5=first.md5)
        await wait_until(lambda: _has_content(nacos, data_id, "a: 2"))

    async def test_a_form_above_the_limit_is_sent_in_parts_or_refused_by_its_cause(
        self, nacos: Any, data_id: str
    ) -> None:
        document = "漢" * 240_000  # as a form 2.2 MB, in parts 0.7 MB
        await nacos.admin.publish(data_id, document)
        config = await wait_until(lambda: _read_config(nacos, data_id))
        assert config.content == document
        with pytest.raises(RequestRejectedError, match="max-http-form-post-size"):
            await nacos.admin.publish(data_id, "漢" * 360_000)
        assert (await nacos.config.get(data_id)).content == document

    async def test_deleting_what_is_not_there_is_no_error(self, nacos: Any, data_id: str) -> None:
        await nacos.admin.delete(data_id)

    async def test_a_watch_reports_absence_each_change_and_deletion_once(
        self,
        nacos: Any,
        data_id: str,
    ) -> None:
        contents: list[str] = []
        stop = nacos.config.watch(
            data_id,
            lambda config: _append_state(contents, config),
            on_deleted=lambda deleted: _append_state(contents, deleted),
        )
        await wait_until(lambda: contents == ["deleted"])
        for content in ("a: 1", "a: 2"):
            await nacos.admin.publish(data_id, content)
            await wait_until(_ends_with(contents, content))
        await nacos.admin.delete(data_id)
        await wait_until(lambda: contents[-1] == "deleted")
        assert contents == ["deleted", "a: 1", "a: 2", "deleted"]
        stop()
        stop()
        await nacos.admin.publish(data_id, "a: 3")
        await wait_until(lambda: _has_content(nacos, data_id, "a: 3"))
        assert contents[-1] == "deleted"

    async def test_a_registered_instance_is_listed_with_its_data_until_deregistered(
        self,
        nacos: Any,
        service: str,
    ) -> None:
        labels = {"version": "1", "note": "a=b,c"}
        await nacos.naming.register(service, "10.9.8.7", 8000, metadata=labels, weight=2.5)
        (instance,) = await wait_until(lambda: nacos.naming.instances(service))
        assert (instance.ip, instance.port, instance.weight) == ("10.9.8.7", 8000, 2.5)
        assert (instance.healthy, instance.enabled, instance.ephemeral) == (True, True, True)
        assert instance.metadata == labels
        assert (instance.service, instance.group) == (service, GROUP)
        assert (instance.cluster, instance.namespace) == ("DEFAULT", "public")
        await nacos.naming.deregister(service, "10.9.8.7", 8000)
        await wait_until(lambda: _is_empty(nacos, service))
        await nacos.naming.deregister(service, "10.9.8.7", 8000)

    async def test_an_instance_handed_over_stays_when_its_client_closes(
        self, nacos: Any, service: str, target: Target
    ) -> None:
        await nacos.naming.hand_over(service, "10.9.8.7", 8000)
        async with AsyncNacosClient(
            target.address, username=target.username, password=target.password, group=GROUP
        ) as other:
            await other.naming.register(service, "10.9.8.7", 8000, metadata=_QUICK_BEATS)
            await wait_until(lambda: nacos.naming.instances(service))
            await other.naming.hand_over(service, "10.9.8.7", 8000)
            with pytest.raises(InvalidArgumentError, match="one this client has registered"):
                await other.naming.update(service, "10.9.8.7", 8000, weight=2)
        assert [each.ip for each in await nacos.naming.instances(service)] == ["10.9.8.7"]
        await nacos.naming.register(service, "10.9.8.7", 8000, weight=3)
        await wait_until(lambda: _has_weights(nacos, service, [3.0]))
        await nacos.naming.deregister(service, "10.9.8.7", 8000)
        await wait_until(lambda: _is_empty(nacos, service))

    async def test_registering_again_replaces_the_data(self, nacos: Any, service: str) -> None:
        await nacos.naming.register(service, "10.9.8.7", 8000, weight=1)
        await nacos.naming.register(service, "10.9.8.7", 8000, weight=7)
        await wait_until(lambda: _has_weights(nacos, service, [7.0]))

    async def test_a_service_nobody_registered_is_an_empty_list(
        self,
        nacos: Any,
        service: str,
    ) -> None:
        assert list(await nacos.naming.instances(service)) == []

    async def test_a_beat_of_an_unknown_instance_is_instance_not_found(
        self,
        nacos: Any,
        service: str,
    ) -> None:
        with pytest.raises(InstanceNotFound) as caught:
            await nacos.naming.beat(service, "10.9.8.7", 8000)
        assert caught.value.code == 21003
        await nacos.naming.register(service, "10.9.8.7", 8000)
        await nacos.naming.beat(service, "10.9.8.7", 8000)

    async def test_an_instance_the_server_forgot_is_registered_again_with_all_its_data(
        self,
        nacos: Any,
        service: str,
        target: Target,
    ) -> None:
        await nacos.naming.register(
            service, "10.9.8.7", 8000, metadata=_QUICK_BEATS, weight=3, cluster="east"
        )
        async with AsyncNacosClient(
            target.address, username=target.username, password=target.password, group=GROUP
        ) as other:
            await other.naming.deregister(service, "10.9.8.7", 8000, cluster="east")
        (instance,) = await wait_until(lambda: nacos.naming.instances(service, clusters=["east"]))
        assert instance.weight == 3
        assert instance.metadata == _QUICK_BEATS

    async def test_an_instance_lives_on_its_beats_for_longer_than_the_server_waits(
        self,
        nacos: Any,
        service: str,
    ) -> None:
        await nacos.naming.register(service, "10.9.8.7", 8000, metadata=_QUICK_BEATS)
        before = nacos.naming.beat_status.sent
        await wait_until(lambda: nacos.naming.beat_status.sent >= before + 10)
        (instance,) = await nacos.naming.instances(service)
        assert instance.healthy

    async def test_without_clusters_all_are_listed_and_named_ones_are_found(
        self,
        nacos: Any,
        service: str,
    ) -> None:
        await nacos.naming.register(service, "10.9.8.1", 8000, cluster="east")
        await nacos.naming.register(service, "10.9.8.2", 8000)
        await wait_until(lambda: _has_ips(nacos, service, ["10.9.8.1", "10.9.8.2"]))
        both = ["DEFAULT", "east"]
        assert await _has_ips(nacos, service, ["10.9.8.1", "10.9.8.2"], clusters=both)
        assert await _has_ips(nacos, service, ["10.9.8.1"], clusters=["east"])
        assert await _has_ips(nacos, service, ["10.9.8.2"], clusters=["DEFAULT"])

    async def test_weight_zero_is_listed_but_not_as_healthy_and_disabled_is_not_listed(
        self,
        nacos: Any,
        service: str,
    ) -> None:
        await nacos.naming.register(service, "10.9.8.1", 8000, weight=0)
        await nacos.naming.register(service, "10.9.8.2", 8000, enabled=False)
        await nacos.naming.register(service, "10.9.8.3", 8000)
        await wait_until(lambda: _has_ips(nacos, service, ["10.9.8.1", "10.9.8.3"]))
        assert await _has_ips(nacos, service, ["10.9.8.3"], healthy_only=True)

    async def test_a_service_takes_either_ephemeral_or_persistent_instances(
        self,
        nacos: Any,
        service: str,
    ) -> None:
        await nacos.naming.register(service, "10.9.8.1", 8000)
        with pytest.raises(RequestRejectedError, match="ephemeral service"):
            await nacos.naming.register(service, "10.9.8.2", 8000, ephemeral=False)

    async def test_a_persistent_instance_is_updated_and_deregistered_by_who_registered_it(
        self, nacos: Any, service: str
    ) -> None:
        await nacos.naming.register(service, "10.9.8.7", 8000, ephemeral=False)
        await wait_until(lambda: _has_ips(nacos, service, ["10.9.8.7"]))
        await nacos.naming.update(service, "10.9.8.7", 8000, metadata={"version": "2"})
        await wait_until(lambda: _has_metadata(nacos, service, {"version": "2"}))
        await nacos.naming.deregister(service, "10.9.8.7", 8000)
        await wait_until(lambda: _has_ips(nacos, service, []))

    async def test_a_subscriber_hears_the_list_and_then_what_came_changed_and_went(
        self,
        nacos: Any,
        service: str,
    ) -> None:
        lists: list[InstanceList] = []
        stop = nacos.naming.subscribe(service, lists.append)
        await wait_until(lambda: lists and list(lists[0]) == [])
        await nacos.naming.register(service, "10.9.8.1", 8000)
        await wait_until(lambda: [i.ip for i in lists[-1].added] == ["10.9.8.1"])
        await nacos.naming.register(service, "10.9.8.1", 8000, weight=5)
        await wait_until(lambda: [i.weight for i in lists[-1].changed] == [5.0])
        await nacos.naming.deregister(service, "10.9.8.1", 8000)
        await wait_until(lambda: [i.ip for i in lists[-1].removed] == ["10.9.8.1"])
        assert [len(each) for each in lists] == [0, 1, 1, 0]
        stop()

    async def test_services_of_a_group_are_listed(self, nacos: Any, service: str) -> None:
        await nacos.naming.register(service, "10.9.8.1", 8000)
        await wait_until(lambda: _lists_service(nacos, service))

    async def test_a_namespace_per_call_keeps_services_apart(
        self,
        nacos: Any,
        service: str,
    ) -> None:
        await nacos.naming.register(service, "10.9.8.1", 8000, namespace="contract-ns")
        listing = await wait_until(lambda: nacos.naming.instances(service, namespace="contract-ns"))
        assert [each.namespace for each in listing] == ["contract-ns"]
        assert await _is_empty(nacos, service)
        await nacos.naming.deregister(service, "10.9.8.1", 8000, namespace="contract-ns")

    @pytest.mark.parametrize("username", ["known", "nobody"])
    async def test_refused_credentials_are_an_authentication_error(
        self, target: Target, username: str
    ) -> None:
        name = target.username if username == "known" else f"nobody-{uuid.uuid4().hex}"
        wrong = "certainly-wrong"
        async with AsyncNacosClient(
            target.address, username=name, password=wrong, login_attempts=1
        ) as nacos:
            with pytest.raises(AuthenticationError) as caught:
                await nacos.config.get("anything")
        assert wrong not in str(caught.value)

    async def test_without_credentials_a_call_is_an_authentication_error(
        self, target: Target
    ) -> None:
        async with AsyncNacosClient(target.address, username="") as nacos:
            with pytest.raises(AuthenticationError, match="User not found"):
                await nacos.config.get("anything")


def _append_state(contents: list[str], state: Config | ConfigDeleted) -> None:
    contents.append(state.content if isinstance(state, Config) else "deleted")


def _ends_with(contents: list[str], content: str) -> Callable[[], bool]:
    return lambda: contents[-1] == content


async def _read_config(nacos: Any, data_id: str) -> Config | None:
    with contextlib.suppress(ConfigNotFound):
        config: Config = await nacos.config.get(data_id)
        return config
    return None


async def _has_content(nacos: Any, data_id: str, content: str) -> bool:
    config = await _read_config(nacos, data_id)
    return config is not None and config.content == content


async def _is_empty(nacos: Any, service: str) -> bool:
    return len(await nacos.naming.instances(service)) == 0


async def _has_metadata(nacos: Any, service: str, metadata: dict[str, str]) -> bool:
    return [each.metadata for each in await nacos.naming.instances(service)] == [metadata]


async def _has_ips(nacos: Any, service: str, expected: list[str], **options: object) -> bool:
    return [each.ip for each in await nacos.naming.instances(service, **options)] == expected


async def _has_weights(nacos: Any, service: str, expected: list[float]) -> bool:
    return [each.weight for each in await nacos.naming.instances(service)] == expected


async def _lists_service(nacos: Any, service: str) -> bool:
    return service in await nacos.naming.services()
