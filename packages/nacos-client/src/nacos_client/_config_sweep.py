"""Find changed documents of a namespace by one list instead of one read each."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .errors import AnswerError, NacosError, ServerError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._admin import ConfigAdmin
    from ._polling import Run
    from ._steps import Clock

__all__ = ("ConfigSweep",)

logger = logging.getLogger(__name__)

REFUSED_SECONDS = 600.0
# A page of the list has to spare this many reads, or reading one by one is cheaper.
READS_PER_PAGE = 10


@dataclass(slots=True)
class _Namespace:
    md5s: Mapping[tuple[str, str], str] = field(default_factory=dict)
    taken_at: float = float("-inf")
    barred_until: float = float("-inf")
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class ConfigSweep:
    """The md5 of every document of a namespace, as the admin API lists them.

    Used only where the user may use that API and enough documents are watched. The list does not
    know beta versions: whoever relies on it has to read directly now and then.

    Args:
        fresh_seconds: how old a list may be.
    """

    def __init__(self, admin: ConfigAdmin, run: Run, *, clock: Clock, fresh_seconds: float) -> None:
        self._admin = admin
        self._run = run
        self._clock = clock
        self._fresh_seconds = fresh_seconds
        self._namespaces: dict[str, _Namespace] = {}

    async def md5s(self, namespace: str, watched: int) -> Mapping[tuple[str, str], str] | None:
        """(group, data id) to md5 as of a moment ago; None where reading directly is better."""
        space = self._namespaces.setdefault(namespace, _Namespace())
        async with space.lock:
            now = self._clock()
            if now < space.barred_until:
                return None
            if now - space.taken_at > self._fresh_seconds:
                await self._take(space, namespace, watched)
        return space.md5s if self._clock() >= space.barred_until else None

    async def _take(self, space: _Namespace, namespace: str, watched: int) -> None:
        began = self._clock()
        try:
            most_pages = watched // READS_PER_PAGE
            md5s = await self._run(self._admin.md5s(namespace, most_pages))
        except ServerError:
            space.barred_until = began + self._fresh_seconds
        except AnswerError as error:
            space.barred_until = began + REFUSED_SECONDS
            logger.info("configuration is read one by one, the list is refused: %s", error)
        except NacosError:
            space.barred_until = began + self._fresh_seconds
        else:
            if md5s is None:
                space.barred_until = began + REFUSED_SECONDS
            else:
                space.md5s, space.taken_at = md5s, began
