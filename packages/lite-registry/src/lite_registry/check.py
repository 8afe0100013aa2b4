"""`lite-registry check`: whether servers are reachable, and which permissions are missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from .http_client import HttpClientError
from .kubernetes.access import ApiServer

__all__ = ("Finding", "run_checks")

_RESOURCES = (("", "services"), ("discovery.k8s.io", "endpointslices"))
_VERBS = ("list", "watch")


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    ok: bool
    message: str

    def __str__(self) -> str:
        return f"{'ok     ' if self.ok else 'MISSING'} {self.message}"


async def run_checks(
    api: ApiServer | None, namespaces: tuple[str, ...], store: str
) -> list[Finding]:
    """Check everything that `serve` needs, besides the settings themselves.

    Args:
        api: the API server, if routes come from there.
        namespaces: the watched ones; an empty name stands for all.
        store: `memory`, `none` or the URL of Redis.
    """
    findings = [Finding(True, "settings are complete")]
    if api is not None:
        findings += await _check_cluster(api, namespaces)
    if store not in {"memory", "none"}:
        findings.append(await _check_redis(store))
    return findings


async def _check_cluster(api: ApiServer, namespaces: tuple[str, ...]) -> list[Finding]:
    try:
        client = await api.create_client()
        response = await client.request("GET", "/version")
        version = response.json().get("gitVersion", f"HTTP {response.status}")
    except HttpClientError as error:
        return [Finding(False, f"API server {api.url}: {error}; check address and certificates")]
    findings = [Finding(True, f"API server {api.url} responds ({version})")]
    for namespace in namespaces:
        for group, resource in _RESOURCES:
            findings += [
                await _check_permission(api, namespace, group, resource, v) for v in _VERBS
            ]
    return findings


async def _check_permission(
    api: ApiServer, namespace: str, group: str, resource: str, verb: str
) -> Finding:
    attributes = {"namespace": namespace, "group": group, "resource": resource, "verb": verb}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    scope = f"in namespace {namespace}" if namespace else "in all namespaces"
    permission = f"{verb} {resource}{f'.{group}' if group else ''} {scope}"
    try:
        client = await api.create_client()
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        response = await client.request("POST", path, document=review)
        status = cast("dict[str, object]", response.json().get("status") or {})
    except HttpClientError as error:
        return Finding(False, f"{permission}: {error}")
    if response.status == 401:
        return Finding(False, f"{permission}: the credentials are not accepted; get new ones")
    if status.get("allowed"):
        return Finding(True, permission)
    kind = "Role" if namespace else "ClusterRole"
    return Finding(False, f"{permission}: not allowed; grant it with a {kind} and its binding")


async def _check_redis(url: str) -> Finding:
    from .redis_store import find_problem

    reason = await find_problem(url)
    if reason:
        return Finding(False, f"the store of leases: {reason}; check the url")
    return Finding(True, "the store of leases responds")
