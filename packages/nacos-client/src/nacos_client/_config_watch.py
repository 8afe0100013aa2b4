"""Watch configuration documents by comparing the server's md5."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from ._config import ConfigKey, ConfigOperations
from ._polling import Pause, Poller, Run, Watched
from .models import Config, ConfigDeleted

if TYPE_CHECKING:
    import random

    from ._background import Background
    from ._config_sweep import ConfigSweep

__all__ = ("ConfigState", "ConfigWatches", "is_news")

ConfigState = Config | ConfigDeleted

# Changes come in bursts: after one, the next few looks come sooner.
QUICK_LOOKS = 3
QUICK_SHARE = 0.2
# From so many watched documents of a namespace on, one list finds the changed ones.
SWEEP_FROM = 32
# The list does not know beta versions: every fourth look reads the document itself.
DIRECT_LOOK = 4
SWEEP_AGE_SHARE = 0.1


def is_news(before: ConfigState | None, now: ConfigState) -> bool:
    """Whether a listener that saw `before` has to hear of `now`."""
    return _fingerprint(before) != _fingerprint(now)


def _fingerprint(state: ConfigState | None) -> tuple[str, str] | str | None:
    if isinstance(state, Config):
        return (state.md5, state.encrypted_data_key)
    return None if state is None else "deleted"


class _WatchedConfig(Watched[ConfigKey, ConfigState]):
    quick_looks = 0
    looks = 0


class ConfigWatches(Poller[ConfigKey, ConfigState]):
    """All watched documents of one client."""

    def __init__(
        self,
        operations: ConfigOperations,
        sweep: ConfigSweep | None,
        run: Run,
        background: Background,
        *,
        poll_seconds: float,
        rng: random.Random,
        sleep: Pause = asyncio.sleep,
    ) -> None:
        super().__init__(run, background, poll_seconds=poll_seconds, rng=rng, sleep=sleep)
        self._operations = operations
        self._sweep = sweep
        self._per_namespace: Counter[str] = Counter()

    def _begin(self, key: ConfigKey) -> _WatchedConfig:
        self._per_namespace[key.namespace] += 1
        return _WatchedConfig(key)

    def _end(self, key: ConfigKey) -> None:
        self._per_namespace[key.namespace] -= 1

    async def _look(self, watched: Watched[ConfigKey, ConfigState]) -> None:
        assert isinstance(watched, _WatchedConfig)  # noqa: S101 - `_begin` makes no other
        watched.looks += 1
        if await self._listed_unchanged(watched):
            return
        state: ConfigState = await self._run(self._operations.present(watched.key))
        if not is_news(watched.state, state):
            return
        if watched.state is not None:
            watched.quick_looks = QUICK_LOOKS
        watched.tell(state)

    async def _listed_unchanged(self, watched: _WatchedConfig) -> bool:
        """Whether the namespace's list shows the very version that is known."""
        key, state = watched.key, watched.state
        count = self._per_namespace[key.namespace]
        if self._sweep is None or count < SWEEP_FROM or not watched.looks % DIRECT_LOOK:
            return False
        if not isinstance(state, Config) or state.source != "server":
            return False
        md5s = await self._sweep.md5s(key.namespace, count)
        return md5s is not None and md5s.get((key.group, key.data_id)) == state.md5

    def _pause(self, watched: Watched[ConfigKey, ConfigState]) -> float:
        # The list may be some time old: look that much sooner.
        pause = super()._pause(watched) - SWEEP_AGE_SHARE * self._poll_seconds
        if isinstance(watched, _WatchedConfig) and watched.quick_looks:
            watched.quick_looks -= 1
            return pause * QUICK_SHARE
        return pause
