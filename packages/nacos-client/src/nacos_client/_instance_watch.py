"""Subscribe to a service by polling its instance list: diffs, last good list, confirmed empties."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ._naming import NamingOperations, ServiceKey
from ._polling import Pause, Poller, Run, Watched
from .models import Instance, InstanceList

if TYPE_CHECKING:
    import random

    from ._background import Background
    from ._steps import Clock

__all__ = ("InstanceWatches", "ServiceState", "is_news", "list_for")

CONFIRM_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class ServiceState:
    """What is known of a service: the last good list, and whether it is still confirmed."""

    key: ServiceKey
    instances: tuple[Instance, ...]
    stale: bool = False
    age_seconds: float = 0.0


def is_news(before: ServiceState | None, now: ServiceState) -> bool:
    """Whether a listener that saw `before` has to hear of `now`."""
    return before is None or (before.instances, before.stale) != (now.instances, now.stale)


def list_for(state: ServiceState, before: ServiceState | None) -> InstanceList:
    """What a listener is handed, with the difference to what it saw before."""
    old = {_identity(each): each for each in before.instances} if before else {}
    new = {_identity(each): each for each in state.instances}
    return InstanceList(
        service=state.key.service,
        group=state.key.group,
        namespace=state.key.namespace,
        instances=state.instances,
        added=tuple(each for at, each in new.items() if at not in old),
        removed=tuple(each for at, each in old.items() if at not in new),
        changed=tuple(each for at, each in new.items() if at in old and old[at] != each),
        stale=state.stale,
        age_seconds=state.age_seconds,
    )


def _identity(instance: Instance) -> tuple[str, str, int]:
    return (instance.cluster, instance.ip, instance.port)


class _WatchedService(Watched[ServiceKey, ServiceState]):
    good_at = 0.0
    outage = False
    empty_since: float | None = None


class InstanceWatches(Poller[ServiceKey, ServiceState]):
    """All subscribed services of one client.

    An empty answer after a full one is believed when a second look a second later agrees; after
    an outage, when it stays empty for `empty_hold_seconds`: a restarted server has forgotten all
    ephemeral instances until their next beat.
    """

    def __init__(
        self,
        operations: NamingOperations,
        run: Run,
        background: Background,
        *,
        poll_seconds: float,
        empty_hold_seconds: float,
        clock: Clock,
        rng: random.Random,
        sleep: Pause = asyncio.sleep,
    ) -> None:
        super().__init__(run, background, poll_seconds=poll_seconds, rng=rng, sleep=sleep)
        self._operations = operations
        self._empty_hold_seconds = empty_hold_seconds
        self._clock = clock

    def _begin(self, key: ServiceKey) -> _WatchedService:
        return _WatchedService(key)

    async def _look(self, watched: Watched[ServiceKey, ServiceState]) -> None:
        assert isinstance(watched, _WatchedService)  # noqa: S101 - `_begin` makes no other
        found: tuple[Instance, ...] = await self._run(self._operations.instances(watched.key))
        if not found and not self._believed(watched):
            if watched.outage:
                self._keep_last_good(watched)
            return
        watched.empty_since = None
        watched.outage = False
        watched.good_at = self._clock()
        self._tell(watched, ServiceState(watched.key, found))

    def _missed(self, watched: Watched[ServiceKey, ServiceState]) -> None:
        assert isinstance(watched, _WatchedService)  # noqa: S101 - `_begin` makes no other
        watched.outage = True
        self._keep_last_good(watched)

    def _believed(self, watched: _WatchedService) -> bool:
        """Whether an empty answer has lasted long enough to be the truth."""
        if watched.state is None or not watched.state.instances:
            return True
        now = self._clock()
        if watched.empty_since is None:
            watched.empty_since = now
        hold = self._empty_hold_seconds if watched.outage else CONFIRM_SECONDS / 2
        return now - watched.empty_since >= hold

    def _keep_last_good(self, watched: _WatchedService) -> None:
        if watched.state is not None:
            age = self._clock() - watched.good_at
            self._tell(watched, replace(watched.state, stale=True, age_seconds=age))

    def _tell(self, watched: _WatchedService, state: ServiceState) -> None:
        if is_news(watched.state, state):
            watched.tell(state)
        else:
            watched.state = state

    def _pause(self, watched: Watched[ServiceKey, ServiceState]) -> float:
        assert isinstance(watched, _WatchedService)  # noqa: S101 - `_begin` makes no other
        if watched.empty_since is not None:
            return min(CONFIRM_SECONDS, self._poll_seconds)
        return super()._pause(watched)
