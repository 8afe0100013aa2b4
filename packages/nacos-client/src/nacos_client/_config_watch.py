"""Watch configuration documents by comparing the server's md5."""

from __future__ import annotations

import asyncio
import enum
import logging
import random
from functools import partial

from ._background import BackgroundLoop
from ._config import ConfigOperations
from ._config_list import ConfigLists, Md5s
from ._keys import ConfigKey
from ._polling import AsyncSleep, Poller, RunOperation, Watch
from ._supervision import TaskSupervisor
from .errors import ServerError, ServerUnavailableError
from .models import Config, ConfigDeleted

__all__ = ("ConfigState", "ConfigWatches", "config_differs")

logger = logging.getLogger(__name__)

ConfigState = Config | ConfigDeleted

# Changes come in bursts: after one, the next few polls come sooner.
_QUICK_POLLS = 3
_QUICK_SHARE = 0.2
# With so many watched documents in a namespace, its list finds the changed ones.
_MIN_SWEPT_DOCUMENTS = 32
# A page of the list has to save this many reads, or reading one by one is cheaper.
_READS_PER_PAGE = 10
# The list does not show beta versions: each document is still read itself, but less often.
_DIRECT_POLL_INTERVALS = 4
_UNUSABLE_LIST_SECONDS = 600.0


class _NoList(enum.Enum):
    """Why there is no list of a namespace's documents.

    Attributes:
        INCONCLUSIVE: no server responds, or the list is empty; it is requested again.
        UNUSABLE: the user may not list, or the list is too long; documents are read one by one.
    """

    INCONCLUSIVE = enum.auto()
    UNUSABLE = enum.auto()


def config_differs(before: ConfigState | None, now: ConfigState) -> bool:
    """Whether a listener that saw `before` has to be called with `now`."""
    return _compute_fingerprint(before) != _compute_fingerprint(now)


def _compute_fingerprint(state: ConfigState | None) -> tuple[str, str] | str | None:
    if isinstance(state, Config):
        return (state.md5, state.encrypted_data_key)
    return None if state is None else "deleted"


class _ConfigWatch(Watch[ConfigKey, ConfigState]):
    quick_polls = 0


class ConfigWatches(Poller[ConfigKey, ConfigState, _ConfigWatch]):
    """All watched documents of one client.

    Args:
        lists: lists whole namespaces; None to read every document by itself.
    """

    def __init__(
        self,
        operations: ConfigOperations,
        lists: ConfigLists | None,
        run: RunOperation,
        background: BackgroundLoop,
        *,
        poll_seconds: float,
        rng: random.Random,
        sleep: AsyncSleep = asyncio.sleep,
    ) -> None:
        super().__init__(run, background, poll_seconds=poll_seconds, rng=rng, sleep=sleep)
        self._operations = operations
        self._lists = lists
        # Closed with the background loop, which cancels all its tasks.
        self._sweeps = TaskSupervisor("Nacos configuration watch", sleep=sleep, random=rng.random)
        self._swept: set[str] = set()

    def _create_watch(self, key: ConfigKey) -> _ConfigWatch:
        is_worth_a_list = len(self._find_watches(key.namespace)) + 1 >= _MIN_SWEPT_DOCUMENTS
        name = f"sweep of {key.namespace}"
        if self._lists is not None and is_worth_a_list and name not in self._sweeps.running:
            self._sweeps.start(name, partial(self._sweep, key.namespace, self._lists))
        return _ConfigWatch(key)

    async def _poll(self, watch: _ConfigWatch) -> None:
        state: ConfigState = await self._run(self._operations.get_state(watch.key))
        if not config_differs(watch.state, state):
            return
        if watch.state is not None:
            watch.quick_polls = _QUICK_POLLS
        watch.notify(state)

    def _pause_seconds(self, watch: _ConfigWatch) -> float:
        pause = super()._pause_seconds(watch)
        if watch.key.namespace in self._swept:
            return pause * _DIRECT_POLL_INTERVALS
        if watch.quick_polls:
            watch.quick_polls -= 1
            return pause * _QUICK_SHARE
        return pause

    def _find_watches(self, namespace: str) -> list[_ConfigWatch]:
        return [watch for key, watch in self._watches.items() if key.namespace == namespace]

    async def _sweep(self, namespace: str, lists: ConfigLists) -> None:
        """Compare the namespace's list with the known states, while enough of it is watched."""
        await self._sleep(self._poll_seconds)
        while len(watches := self._find_watches(namespace)) >= _MIN_SWEPT_DOCUMENTS:
            md5s = await self._list_md5s(lists, namespace, len(watches) // _READS_PER_PAGE)
            if md5s is _NoList.UNUSABLE:
                self._read_one_by_one(namespace)
                await self._sleep(_UNUSABLE_LIST_SECONDS)
                continue
            if md5s is not _NoList.INCONCLUSIVE:
                self._swept.add(namespace)
                await self._poll_changed(watches, md5s)
            await self._sleep(self._poll_seconds * self._rng.uniform(0.8, 0.9))
        self._read_one_by_one(namespace)

    async def _list_md5s(
        self, lists: ConfigLists, namespace: str, max_pages: int
    ) -> Md5s | _NoList:
        try:
            md5s: Md5s | None = await self._run(lists.read_md5s(namespace, max_pages))
        except (ServerUnavailableError, ServerError):
            return _NoList.INCONCLUSIVE
        except Exception as error:  # noqa: BLE001 - the list only saves reads, so reading goes on
            logger.info("cannot list the configuration; reading one by one: %s", error)
            return _NoList.UNUSABLE
        if md5s is None:
            return _NoList.UNUSABLE
        # An empty list of a namespace with watched documents proves nothing: a server that has
        # just started shows one, too.
        return md5s or _NoList.INCONCLUSIVE

    async def _poll_changed(self, watches: list[_ConfigWatch], md5s: Md5s) -> None:
        await asyncio.gather(
            *(
                self._poll_in_turn(watch)
                for watch in watches
                if _may_have_changed(watch.state, md5s.get((watch.key.group, watch.key.data_id)))
            )
        )

    def _read_one_by_one(self, namespace: str) -> None:
        """Stop relying on the list, and shorten the long pauses it allowed."""
        if namespace not in self._swept:
            return
        self._swept.discard(namespace)
        for watch in self._find_watches(namespace):
            self._poll_again_in(watch, self._poll_seconds * self._rng.uniform(0.0, 0.9))


def _may_have_changed(state: ConfigState | None, listed_md5: str | None) -> bool:
    if isinstance(state, Config):
        return state.source == "server" and state.md5 != listed_md5
    return state is not None and listed_md5 is not None
