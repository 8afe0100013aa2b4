"""Workers that serve one address: one keeps it registered, another takes over when that one ends.

All of them have one file open. The first byte of it, locked, is the right to tell the registry. The
second is locked by all, in shared mode, as long as they are there: who can have it for itself
alone is the last.
"""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import cast

from microservice_core import ServerAddressed, ServiceInstance, ServiceRegistry

try:
    import fcntl
except ImportError:  # Windows: no prefork servers there either
    fcntl = None  # type: ignore[assignment]

__all__ = ("AddressTurn",)

logger = logging.getLogger(__name__)

RIGHT, PRESENCE = 0, 1


class AddressTurn:
    """The right to tell a registry about an instance, held by one process of a machine at a time.

    The workers of a prefork server share an address. If each registered it, the first to end would
    take it from all. Right and presence end with the process, whatever way that goes, and are not
    handed down by a fork. Where no file can be locked every process has the right, and is the last.

    Args:
        registry: one without a server is seen by no other process; there everyone has the right.
        folder: where the lock files are; by default one of this user's in the temporary folder.
    """

    def __init__(
        self, instance: ServiceInstance, registry: ServiceRegistry, folder: Path | None = None
    ) -> None:
        server = registry.server_address if isinstance(registry, ServerAddressed) else ""
        home = (instance.namespace_id, instance.group_name, instance.service_name)
        name = "\n".join((server, *home, instance.instance_id))
        digest = hashlib.sha256(name.encode()).hexdigest()[:32]
        self._folder = folder
        self._name = f"{digest}.lock"
        self._path = Path(self._name)
        self._shared = bool(server) and fcntl is not None
        self._file: int | None = None
        self._last: bool | None = None
        self.held = False

    def take(self) -> bool:
        """Whether the right is this process's now; asking again is fine."""
        if not self.held:
            try:
                self.held = not self._shared or (self._join() and self._lock(RIGHT))
            except OSError as error:
                logger.info("workers of one address are not told apart: %s", error)
                self._close()
                self.held = True
        return self.held

    def leave(self) -> bool:
        """Be present no more; whether this is the last process that was.

        Until `give_up` nobody else can come.
        """
        if self._file is None:
            return self.held
        if self._last is None:
            # First away, then asking, once: of two that leave together one is the last for certain.
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, PRESENCE)
            self._last = self._lock(PRESENCE) and self._is_current(self._file)
        return self._last

    def give_up(self) -> None:
        """Let another process have the right; leave if that was not done."""
        if self.leave() and self._file is not None:
            self._path.unlink(missing_ok=True)
        self.held, self._last = False, None
        self._close()

    def _join(self) -> bool:
        if self._file is None:
            folder = self._folder or _folder_of_this_user()
            _make_private(folder)
            self._path = folder / self._name
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if not (self._lock(PRESENCE, shared=True) and self._is_current(self._file)):
                self._close()
        return self._file is not None

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            os.close(file)  # which gives every lock back

    def _lock(self, byte: int, *, shared: bool = False) -> bool:
        how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
        try:
            fcntl.lockf(cast(int, self._file), how, 1, byte)
        except (BlockingIOError, PermissionError):  # POSIX leaves open which
            return False
        return True

    def _is_current(self, file: int) -> bool:
        """Whether nobody, leaving last, removed the file before it was locked."""
        try:
            return os.path.samestat(os.fstat(file), self._path.stat())
        except FileNotFoundError:
            return False


def _folder_of_this_user() -> Path:
    import tempfile

    owner = os.getuid() if hasattr(os, "getuid") else 0
    return Path(tempfile.gettempdir()) / f"microservice-kit-{owner}"


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if folder.is_symlink() or found.st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else; remove it")
