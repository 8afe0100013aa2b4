"""Watch configuration documents by comparing the server's md5."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ._config import ConfigKey, ConfigOperations
from ._polling import Pause, Poller, Run, Watched
from .models import Config, ConfigDeleted

if TYPE_CHECKING:
    import random

    from ._background import Background

__all__ = ("ConfigState", "ConfigWatches", "is_news")

ConfigState = Config | ConfigDeleted

# Changes come in bursts: after one, the next few looks come sooner.
QUICK_LOOKS = 3
QUICK_SHARE = 0.2


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
    """All watched documents of one client."""

    def __init__(
        self,
        operations: ConfigOperations,
        run: Run,
        background: Background,
        *,
        poll_seconds: float,
        rng: random.Random,
        sleep: Pause = asyncio.sleep,
    ) -> None:
        super().__init__(run, background, poll_seconds=poll_seconds, rng=rng, sleep=sleep)
        self._operations = operations

    def _begin(self, key: ConfigKey) -> _WatchedConfig:
        return _WatchedConfig(key)

    async def _look(self, watched: Watched[ConfigKey, ConfigState]) -> None:
        state: ConfigState = await self._run(self._operations.present(watched.key))
        if not is_news(watched.state, state):
            return
        if isinstance(watched, _WatchedConfig) and watched.state is not None:
            watched.quick_looks = QUICK_LOOKS
        watched.tell(state)

    def _pause(self, watched: Watched[ConfigKey, ConfigState]) -> float:
        pause = super()._pause(watched)
        if isinstance(watched, _WatchedConfig) and watched.quick_looks:
            watched.quick_looks -= 1
            return pause * QUICK_SHARE
        return pause
