"""The behaviour of the admin API of every Nacos server, real or fake; see `contract`."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from nacos_client import (
    AsyncNacosClient,
    AuthenticationError,
    ConfigNotFound,
    NacosError,
    NotFoundError,
    PermissionDeniedError,
    RequestRejectedError,
)

from .contract import GROUP, ClientContract, Target, collect, wait_until

__all__ = ("AdminContract",)

_PASSWORD = "contract-only"  # noqa: S105 - of a user that lives for one test
_OWN_ADDRESSES = ["127.0.0.1"]


class AdminContract(ClientContract):
    """Documents, services, namespaces and users through the admin API."""

    @pytest.fixture
    async def namespace(self, nacos: Any) -> AsyncIterator[str]:
        """A namespace for one test."""
        name = f"contract-{uuid.uuid4().hex[:12]}"
        await nacos.admin.create_namespace(name, "Contract", description="by a test")
        yield name
        await nacos.admin.delete_namespace(name)

    async def test_ones_own_write_is_read_at_once_with_everything_about_it(
        self, nacos: Any, data_id: str
    ) -> None:
        await nacos.admin.publish(
            data_id, "a: 1", type="json", description="a note", tags=["x", "y"], app="shop"
        )
        detail = await nacos.admin.get(data_id)
        assert (detail.content, detail.content_type) == ("a: 1", "json")
        assert (detail.description, detail.tags, detail.app) == ("a note", ("x", "y"), "shop")
        await nacos.admin.delete(data_id)
        with pytest.raises(ConfigNotFound):
            await nacos.admin.get(data_id)

    async def test_search_finds_by_pattern_and_carries_the_md5(
        self, nacos: Any, data_id: str
    ) -> None:
        await nacos.admin.publish(data_id, "a: 1")
        for pattern in (data_id, data_id[:-5] + "*"):
            (summary,) = await collect(nacos.admin.search(pattern, group=GROUP))
            assert (summary.data_id, summary.group) == (data_id, GROUP)
            assert summary.namespace == "public"
            assert summary.md5 == (await nacos.admin.get(data_id)).md5
        assert await collect(nacos.admin.search("contract-no-such-*")) == []

    async def test_history_records_what_was_replaced_and_rollback_brings_it_back(
        self, nacos: Any, data_id: str
    ) -> None:
        for content in ("v: 1", "v: 2", "v: 3"):
            await nacos.admin.publish(data_id, content)
        versions = await collect(nacos.admin.history(data_id))
        assert [version.operation for version in versions] == ["U", "U", "I"]
        recorded = [
            (await nacos.admin.version(data_id, version.version_id)).content for version in versions
        ]
        assert recorded == ["v: 2", "v: 1", "v: 1"]
        await nacos.admin.rollback(data_id, versions[0].version_id)
        detail = await nacos.admin.get(data_id)
        assert (detail.content, detail.content_type) == ("v: 2", "yaml")

    async def test_a_deleted_document_comes_back_by_rollback(
        self, nacos: Any, data_id: str
    ) -> None:
        await nacos.admin.publish(data_id, "v: 1")
        await nacos.admin.delete(data_id)
        newest, *_ = await collect(nacos.admin.history(data_id))
        assert newest.operation == "D"
        await nacos.admin.rollback(data_id, newest.version_id)
        assert (await nacos.admin.get(data_id)).content == "v: 1"

    async def test_a_version_that_is_not_there_is_not_found(self, nacos: Any, data_id: str) -> None:
        with pytest.raises(NotFoundError, match="999999999"):
            await nacos.admin.version(data_id, "999999999")

    async def test_a_beta_is_seen_by_its_addresses_until_it_is_stopped(
        self, nacos: Any, data_id: str
    ) -> None:
        await nacos.admin.publish(data_id, "formal: 1")
        await nacos.admin.publish(data_id, "beta: 1", beta_ips=_OWN_ADDRESSES)
        beta = await nacos.admin.beta(data_id)
        assert (beta.content, list(beta.beta_ips)) == ("beta: 1", _OWN_ADDRESSES)
        await wait_until(lambda: _sees(nacos, data_id, "beta: 1", beta=True))
        await nacos.admin.stop_beta(data_id)
        await wait_until(lambda: _sees(nacos, data_id, "formal: 1", beta=False))
        with pytest.raises(ConfigNotFound, match="not in beta"):
            await nacos.admin.beta(data_id)

    async def test_export_and_import_carry_documents_into_another_namespace(
        self, nacos: Any, data_id: str, namespace: str
    ) -> None:
        await nacos.admin.publish(data_id, "a: 1")
        summaries = await collect(nacos.admin.search(data_id, group=GROUP))
        archive = await nacos.admin.export_configs(summaries)
        first = await nacos.admin.import_configs(archive, namespace=namespace)
        assert (first.succeeded, first.skipped, first.failed) == (1, 0, ())
        repeated = await nacos.admin.import_configs(archive, namespace=namespace, policy="SKIP")
        assert (repeated.succeeded, repeated.skipped) == (0, 1)
        aborted = await nacos.admin.import_configs(archive, namespace=namespace)
        assert (aborted.succeeded, aborted.failed) == (0, (f"{GROUP}/{data_id}",))
        assert (await nacos.admin.get(data_id, namespace=namespace)).content == "a: 1"
        await nacos.admin.delete(data_id, namespace=namespace)

    async def test_clone_copies_into_another_namespace(
        self, nacos: Any, data_id: str, namespace: str
    ) -> None:
        await nacos.admin.publish(data_id, "a: 1")
        summaries = await collect(nacos.admin.search(data_id, group=GROUP))
        result = await nacos.admin.clone(summaries, target_namespace=namespace)
        assert (result.succeeded, result.failed) == (1, ())
        assert (await nacos.admin.get(data_id, namespace=namespace)).content == "a: 1"
        await nacos.admin.delete(data_id, namespace=namespace)

    async def test_namespaces_are_made_listed_changed_and_deleted(
        self, nacos: Any, namespace: str
    ) -> None:
        assert (await nacos.admin.namespace(namespace)).name == "Contract"
        await nacos.admin.update_namespace(namespace, "Renamed", description="new")
        (changed,) = [
            each for each in await nacos.admin.namespaces() if each.namespace_id == namespace
        ]
        assert (changed.name, changed.description) == ("Renamed", "new")
        await nacos.admin.delete_namespace(namespace)
        with pytest.raises(NotFoundError):
            await nacos.admin.namespace(namespace)

    async def test_services_are_made_listed_changed_and_deleted(
        self, nacos: Any, service: str
    ) -> None:
        await nacos.admin.create_service(service, metadata={"team": "a"}, protect_threshold=0.5)
        detail = await nacos.admin.service(service)
        assert (detail.service_name, detail.group, detail.ephemeral) == (service, GROUP, True)
        assert (dict(detail.metadata), detail.protect_threshold) == ({"team": "a"}, 0.5)
        with pytest.raises(RequestRejectedError, match="already exist"):
            await nacos.admin.create_service(service)
        await nacos.admin.update_service(service, metadata={"team": "b"})
        await wait_until(lambda: _has_team(nacos, service, "b"))
        (listed,) = await collect(nacos.admin.services(service))
        assert (listed.name, listed.group, listed.ip_count) == (service, GROUP, 0)
        await nacos.admin.delete_service(service)
        with pytest.raises(NotFoundError):
            await nacos.admin.service(service)

    async def test_the_admin_list_shows_disabled_instances_and_every_cluster(
        self, nacos: Any, service: str
    ) -> None:
        await nacos.naming.register(service, "10.9.8.1", 8000, cluster="east")
        await nacos.naming.register(service, "10.9.8.2", 8000, enabled=False)
        instances = await wait_until(lambda: _admin_lists(nacos, service, 2))
        assert [(each.cluster, each.enabled) for each in instances] == [
            ("east", True),
            ("DEFAULT", False),
        ]

    async def test_an_operator_takes_an_instance_out(self, nacos: Any, service: str) -> None:
        ip = f"10.9.{uuid.uuid4().int % 250}.{uuid.uuid4().int % 250}"
        await nacos.naming.register(service, ip, 8000)
        await nacos.admin.update_instance(service, ip, 8000, weight=2, enabled=False)
        await wait_until(lambda: _lists_none(nacos, service))

    async def test_http_clients_are_no_subscribers(self, nacos: Any, service: str) -> None:
        await nacos.naming.register(service, "10.9.8.1", 8000)
        assert await collect(nacos.admin.subscribers(service)) == []

    async def test_health_of_a_checked_cluster_cannot_be_set(
        self, nacos: Any, service: str
    ) -> None:
        await nacos.naming.register(service, "10.9.8.1", 8000)
        with pytest.raises(RequestRejectedError, match="health check is still working"):
            await nacos.admin.set_health(service, "10.9.8.1", 8000, healthy=False)

    async def test_the_server_is_ready_and_shows_its_state_and_nodes(self, nacos: Any) -> None:
        assert await nacos.admin.ready()
        assert (await nacos.admin.state())["startup_mode"] in {"standalone", "cluster"}
        assert [node.state for node in await nacos.admin.nodes()] == ["UP"]

    async def test_a_user_may_do_what_its_role_permits_and_no_more(
        self, nacos: Any, target: Target, data_id: str
    ) -> None:
        name = f"contract-{uuid.uuid4().hex[:12]}"
        await nacos.admin.create_user(name, _PASSWORD)
        await nacos.admin.add_role(name, name)
        await nacos.admin.add_permission(name, f"public:{GROUP}:config/*", "r")
        try:
            assert name in [user.username for user in await collect(nacos.admin.users())]
            assert (name, name) in [
                (each.role, each.username) for each in await collect(nacos.admin.roles())
            ]
            granted = [
                (each.resource, each.action)
                for each in await collect(nacos.admin.permissions())
                if each.role == name
            ]
            assert granted == [(f"public:{GROUP}:config/*", "r")]
            await nacos.admin.publish(data_id, "a: 1")
            await _reads_and_cannot_write(target, name, data_id)
        finally:
            await nacos.admin.remove_permission(name, f"public:{GROUP}:config/*", "r")
            await nacos.admin.remove_role(name, name)
            await nacos.admin.delete_user(name)

    async def test_making_a_user_twice_is_an_error(self, nacos: Any) -> None:
        name = f"contract-{uuid.uuid4().hex[:12]}"
        await nacos.admin.create_user(name, _PASSWORD)
        try:
            with pytest.raises(NacosError):
                await nacos.admin.create_user(name, _PASSWORD)
        finally:
            await nacos.admin.delete_user(name)


async def _reads_and_cannot_write(target: Target, name: str, data_id: str) -> None:
    # The real server re-reads users and permissions every 15 s.
    async with AsyncNacosClient(
        target.address, username=name, password=_PASSWORD, group=GROUP, login_attempts=1
    ) as limited:

        async def reads() -> bool:
            try:
                return (await limited.config.get(data_id)).content == "a: 1"
            except (AuthenticationError, PermissionDeniedError, ConfigNotFound):
                await asyncio.sleep(0.5)
                return False

        await wait_until(reads, 45)
        with pytest.raises(PermissionDeniedError):
            await limited.admin.publish(data_id, "a: 2")


async def _sees(nacos: Any, data_id: str, content: str, *, beta: bool) -> bool:
    try:
        config = await nacos.config.get(data_id)
    except ConfigNotFound:  # published a moment ago, and not yet seen by clients
        return False
    return bool(config.content == content and config.beta == beta)


async def _has_team(nacos: Any, service: str, team: str) -> bool:
    return bool((await nacos.admin.service(service)).metadata == {"team": team})


async def _admin_lists(nacos: Any, service: str, count: int) -> list[Any] | None:
    instances: list[Any] = await nacos.admin.instances(service)
    return instances if len(instances) == count else None


async def _lists_none(nacos: Any, service: str) -> bool:
    return len(await nacos.naming.instances(service)) == 0
