"""Watch configuration documents by comparing the server's md5."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from ._config import ConfigKey, ConfigOperations
from ._polling import Pause, Poller, Run, Watched
from .errors import ServerError, ServerUnavailableError
from .models import Config, ConfigDeleted

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from ._admin import ConfigAdmin
    from ._background import Background

__all__ = ("ConfigState", "ConfigWatches", "is_news")

logger = logging.getLogger(__name__)

ConfigState = Config | ConfigDeleted

# Changes come in bursts: after one, the next few looks come sooner.
QUICK_LOOKS = 3
QUICK_SHARE = 0.2
# From so many watched documents of a namespace on, its list finds the changed ones.
SWEEP_FROM = 32
# A page of the list has to spare this many reads, or reading one by one is cheaper.
READS_PER_PAGE = 10
# The list does not know beta versions: each document is still read itself, but so much less often.
DIRECT_LOOK_INTERVALS = 4
REFUSED_SECONDS = 600.0


def is_news(before: ConfigState | None, now: ConfigState) -> bool:
    """Whether a listener that saw `before` has to hear of `now`."""
    return _fingerprint(before) != _fingerprint(now)


def _fingerprint(state: ConfigState | None) -> tuple[str, str] | str | None:
    if isinstance(state, Config):
        return (state.md5, state.encrypted_data_key)
    return None if state is None else "deleted"


class _WatchedConfig(Watched[ConfigKey, ConfigState]):
    quick_looks = 0


class ConfigWatches(Poller[ConfigKey, ConfigState]):
    """All watched documents of one client.

    Args:
        admin: makes the admin operations, or None to read every document by itself.
    """

    def __init__(
        self,
        operations: ConfigOperations,
        admin: Callable[[], ConfigAdmin] | None,
        run: Run,
        background: Background,
        *,
        poll_seconds: float,
        rng: random.Random,
        sleep: Pause = asyncio.sleep,
    ) -> None:
        super().__init__(run, background, poll_seconds=poll_seconds, rng=rng, sleep=sleep)
        self._operations = operations
        self._admin = admin
        self._sweepers: dict[str, asyncio.Task[None]] = {}
        self._swept: set[str] = set()

    def _begin(self, key: ConfigKey) -> _WatchedConfig:
        sweeper = self._sweepers.get(key.namespace)
        if self._admin is not None and (sweeper is None or sweeper.done()):
            enough = len(self._of(key.namespace)) + 1 >= SWEEP_FROM
            if enough:
                self._sweepers[key.namespace] = asyncio.create_task(
                    self._sweep(key.namespace, self._admin())
                )
        return _WatchedConfig(key)

    async def _look(self, watched: Watched[ConfigKey, ConfigState]) -> None:
        assert isinstance(watched, _WatchedConfig)  # noqa: S101 - `_begin` makes no other
        state: ConfigState = await self._run(self._operations.present(watched.key))
        if not is_news(watched.state, state):
            return
        if watched.state is not None:
            watched.quick_looks = QUICK_LOOKS
        watched.tell(state)

    def _pause(self, watched: Watched[ConfigKey, ConfigState]) -> float:
        pause = super()._pause(watched)
        if isinstance(watched, _WatchedConfig) and watched.quick_looks:
            watched.quick_looks -= 1
            return pause * QUICK_SHARE
        return pause * DIRECT_LOOK_INTERVALS if watched.key.namespace in self._swept else pause

    def _of(self, namespace: str) -> list[Watched[ConfigKey, ConfigState]]:
        return [each for key, each in self._watched.items() if key.namespace == namespace]

    async def _sweep(self, namespace: str, admin: ConfigAdmin) -> None:
        """Compare the namespace's list with what is known, as long as enough is watched."""
        await self._sleep(self._poll_seconds)
        while len(watched := self._of(namespace)) >= SWEEP_FROM:
            try:
                listed = await self._run(admin.md5s(namespace, len(watched) // READS_PER_PAGE))
            except (ServerUnavailableError, ServerError):
                listed = {}
            except Exception as error:  # noqa: BLE001 - the list is an aid, and never a reason to end
                logger.info("configuration is read one by one: %s", error)
                listed = None
            if listed is None:
                self._read_one_by_one(namespace)
                await self._sleep(REFUSED_SECONDS)
                continue
            if listed:
                self._swept.add(namespace)
                await self._look_at_changed(watched, listed)
            await self._sleep(self._poll_seconds * self._rng.uniform(0.8, 0.9))
        self._read_one_by_one(namespace)

    async def _look_at_changed(
        self, watched: list[Watched[ConfigKey, ConfigState]], listed: dict[tuple[str, str], str]
    ) -> None:
        await asyncio.gather(
            *(
                self._look_in_turn(each)
                for each in watched
                if _differs(each.state, listed.get((each.key.group, each.key.data_id)))
            )
        )

    def _read_one_by_one(self, namespace: str) -> None:
        """Give up the list, and let no document sleep through the longer pause it allowed."""
        if namespace not in self._swept:
            return
        self._swept.discard(namespace)
        for each in self._of(namespace):
            self._restart(each, self._poll_seconds * self._rng.uniform(0.0, 0.9))


def _differs(state: ConfigState | None, listed_md5: str | None) -> bool:
    if isinstance(state, Config):
        return state.source == "server" and state.md5 != listed_md5
    return state is not None and listed_md5 is not None
