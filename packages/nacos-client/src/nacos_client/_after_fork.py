# Copied from packages/microservice-core/src/microservice_core/_after_fork.py by scripts/copy_shared.py: change it there.
"""What a forked child must not share with its parent and siblings: randomness, identity, borrowed units."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from types import MethodType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

if TYPE_CHECKING:
    import random

__all__ = ("call_after_fork", "reseed_after_fork", "run_after_fork")

logger = logging.getLogger(__name__)

_generators: WeakSet[random.Random] = WeakSet()
_methods: WeakKeyDictionary[object, list[Callable[[Any], object]]] = WeakKeyDictionary()
_functions: list[Callable[[], object]] = []


def reseed_after_fork(rng: random.Random) -> random.Random:
    """Seed `rng` from the system in every forked child; returns it.

    A generator that was made before the fork would otherwise give all children the same numbers. It is
    kept by a weak reference.
    """
    _generators.add(rng)
    return rng


def call_after_fork(hook: Callable[[], object]) -> None:
    """Call `hook` in every forked child, before anything else runs there.

    A method is called as long as its object lives, which this does not prolong; a function always. No
    other thread runs then, and a lock that one held stays locked: a hook takes none.
    """
    if isinstance(hook, MethodType):
        _methods.setdefault(hook.__self__, []).append(hook.__func__)
    else:
        _functions.append(hook)


def run_after_fork() -> None:
    """Seed the generators and call the hooks, as the interpreter does in a forked child.

    Call it where a process is duplicated by other means. An exception of a hook is logged.
    """
    for rng in list(_generators):
        rng.seed()
    hooks = list(_functions)
    for owner, methods in list(_methods.items()):
        hooks += [MethodType(method, owner) for method in methods]
    for hook in hooks:
        try:
            hook()
        except Exception:
            logger.exception("a hook after the fork failed")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=run_after_fork)
