"""`lite-registry check`: what can be reached, and which permission is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from .http_client import HttpClientError

if TYPE_CHECKING:
    from .kubernetes.access import ApiServer

__all__ = ("Finding", "check")

NEEDED = (("", "services"), ("discovery.k8s.io", "endpointslices"))
VERBS = ("list", "watch")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at."""

    good: bool
    told: str

    def __str__(self) -> str:
        return f"{'ok     ' if self.good else 'MISSING'} {self.told}"


async def check(api: ApiServer | None, namespaces: tuple[str, ...], store: str) -> list[Finding]:
    """Look at everything that `serve` would need; the settings themselves are read already.

    Args:
        api: the API server, if routes come from there.
        namespaces: those to watch; an empty name = all.
        store: `memory` or the url of Redis.
    """
    findings = [Finding(True, "settings are complete")]
    if api is not None:
        findings += await _check_cluster(api, namespaces)
    if store not in {"memory", "none"}:
        findings.append(await _check_redis(store))
    return findings


async def _check_cluster(api: ApiServer, namespaces: tuple[str, ...]) -> list[Finding]:
    try:
        client = await api.client()
        answer = await client.ask("GET", "/version")
        version = answer.json().get("gitVersion", f"HTTP {answer.status}")
    except HttpClientError as error:
        return [Finding(False, f"API server {api.url}: {error}; check address and certificates")]
    findings = [Finding(True, f"API server {api.url} answers ({version})")]
    for namespace in namespaces:
        for group, resource in NEEDED:
            findings += [await _check_permission(api, namespace, group, resource, v) for v in VERBS]
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
    where = f"in namespace {namespace}" if namespace else "in all namespaces"
    what = f"{verb} {resource}{f'.{group}' if group else ''} {where}"
    try:
        client = await api.client()
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        answer = await client.ask("POST", path, document=review)
        status = cast("dict[str, object]", answer.json().get("status") or {})
    except HttpClientError as error:
        return Finding(False, f"{what}: {error}")
    if answer.status == 401:
        return Finding(False, f"{what}: the credentials are not accepted; get new ones")
    if status.get("allowed"):
        return Finding(True, what)
    kind = "Role" if namespace else "ClusterRole"
    return Finding(False, f"{what}: not allowed; grant it with a {kind} and its binding")


async def _check_redis(url: str) -> Finding:
    from .redis_store import reach

    reason = await reach(url)
    if reason:
        return Finding(False, f"the store of leases: {reason}; check the url")
    return Finding(True, "the store of leases answers")
