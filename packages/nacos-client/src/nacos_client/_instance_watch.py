"""Subscribe to a service by polling its instances: differences, last good list, confirmation."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, replace

from ._background import BackgroundLoop
from ._keys import ServiceKey
from ._naming import NamingOperations
from ._polling import AsyncSleep, Poller, RunOperation, Watch
from ._steps import Clock
from .models import Instance, InstanceList

__all__ = (
    "InstanceWatches",
    "ServiceState",
    "diff_instances",
    "instances_differ",
    "stretch_pause",
)

_CONFIRM_SECONDS = 1.0
_POLLS_UNTIL_QUIET = 12
_MAX_DOUBLINGS = 20


@dataclass(frozen=True, slots=True)
class ServiceState:
    """The last good list of a service's instances.

    Attributes:
        stale: the server no longer confirms the list.
        age_seconds: the age of a stale list.
    """

    key: ServiceKey
    instances: tuple[Instance, ...]
    stale: bool = False
    age_seconds: float = 0.0


def instances_differ(before: ServiceState | None, now: ServiceState) -> bool:
    """Whether a listener that saw `before` has to be called with `now`."""
    return before is None or (before.instances, before.stale) != (now.instances, now.stale)


def diff_instances(state: ServiceState, before: ServiceState | None) -> InstanceList:
    """The list for a listener, with the differences to the one it saw before."""
    old = {_get_identity(each): each for each in before.instances} if before else {}
    new = {_get_identity(each): each for each in state.instances}
    return InstanceList(
        service=state.key.service,
        group=state.key.group,
        namespace=state.key.namespace,
        instances=state.instances,
        added=tuple(each for identity, each in new.items() if identity not in old),
        removed=tuple(each for identity, each in old.items() if identity not in new),
        changed=tuple(
            each for identity, each in new.items() if identity in old and old[identity] != each
        ),
        stale=state.stale,
        age_seconds=state.age_seconds,
    )


def _get_identity(instance: Instance) -> tuple[str, str, int]:
    return (instance.cluster, instance.ip, instance.port)


class _ServiceWatch(Watch[ServiceKey, ServiceState]):
    confirmed_at = 0.0
    after_outage = False
    empty_since: float | None = None
    unchanged_polls = 0


def stretch_pause(pause_seconds: float, unchanged_polls: int, max_seconds: float) -> float:
    """The pause after so many polls that found nothing new: doubled each time after the twelfth."""
    # The exponent is bounded, for the sake of watches that live for years.
    doublings = min(max(unchanged_polls - _POLLS_UNTIL_QUIET, 0), _MAX_DOUBLINGS)
    return max(pause_seconds, min(pause_seconds * 2.0**doublings, max_seconds))


class InstanceWatches(Poller[ServiceKey, ServiceState, _ServiceWatch]):
    """All subscribed services of one client.

    An empty list after one with instances counts only when a second poll, a second later, agrees;
    after an outage, only when it stays empty for `empty_hold_seconds`: a restarted server has
    forgotten all ephemeral instances until their next beat.
    """

    def __init__(
        self,
        operations: NamingOperations,
        run: RunOperation,
        background: BackgroundLoop,
        *,
        poll_seconds: float,
        quiet_poll_seconds: float | None = None,
        empty_hold_seconds: float,
        clock: Clock,
        rng: random.Random,
        sleep: AsyncSleep = asyncio.sleep,
    ) -> None:
        super().__init__(run, background, poll_seconds=poll_seconds, rng=rng, sleep=sleep)
        self._operations = operations
        self._quiet_poll_seconds = quiet_poll_seconds or poll_seconds
        self._empty_hold_seconds = empty_hold_seconds
        self._clock = clock

    def _create_watch(self, key: ServiceKey) -> _ServiceWatch:
        return _ServiceWatch(key)

    async def _poll(self, watch: _ServiceWatch) -> None:
        instances: tuple[Instance, ...] = await self._run(
            self._operations.list_instances(watch.key)
        )
        if not instances and not self._is_credibly_empty(watch):
            if watch.after_outage:
                self._mark_stale(watch)
            return
        watch.empty_since = None
        watch.after_outage = False
        watch.confirmed_at = self._clock()
        self._set_state(watch, ServiceState(watch.key, instances))

    def _handle_outage(self, watch: _ServiceWatch) -> None:
        watch.after_outage = True
        watch.unchanged_polls = 0
        self._mark_stale(watch)

    def _pause_seconds(self, watch: _ServiceWatch) -> float:
        if watch.empty_since is not None:
            return min(_CONFIRM_SECONDS, self._poll_seconds)
        pause = super()._pause_seconds(watch)
        # Of the quiet interval, as of the usual one, a part that differs from client to client.
        longest = self._quiet_poll_seconds * pause / self._poll_seconds
        return stretch_pause(pause, watch.unchanged_polls, longest)

    def _is_credibly_empty(self, watch: _ServiceWatch) -> bool:
        """Whether the service has been empty long enough; notes when it began to be."""
        if watch.state is None or not watch.state.instances:
            return True
        now = self._clock()
        if watch.empty_since is None:
            watch.empty_since = now
        # Half of the pause until the next poll: the second empty list is over it, the first not.
        hold = self._empty_hold_seconds if watch.after_outage else _CONFIRM_SECONDS / 2
        return now - watch.empty_since >= hold

    def _mark_stale(self, watch: _ServiceWatch) -> None:
        if watch.state is not None:
            age = self._clock() - watch.confirmed_at
            self._set_state(watch, replace(watch.state, stale=True, age_seconds=age))

    def _set_state(self, watch: _ServiceWatch, state: ServiceState) -> None:
        if instances_differ(watch.state, state):
            watch.unchanged_polls = 0
            watch.notify(state)
        else:
            watch.unchanged_polls += 1
            watch.state = state  # only its age differs
