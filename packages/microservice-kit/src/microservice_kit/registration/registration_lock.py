"""Workers that serve one address: one keeps it registered, another takes over when it ends.

All of them have one file open. The owner of the registration holds an exclusive lock on the file's
first byte. Every worker holds a shared lock on its second byte for as long as it is present: a
worker that can lock that byte exclusively is the last one.
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
except ImportError:  # Windows, which has no prefork servers either
    fcntl = None  # type: ignore[assignment] # tested before each use

__all__ = ("RegistrationLock",)

logger = logging.getLogger(__name__)

_OWNER_BYTE, _PRESENCE_BYTE = 0, 1


class RegistrationLock:
    """The right to register an instance, held by one process of a machine at a time.

    The workers of a prefork server share an address. If each of them registered it, the first to
    end would deregister it for all. Both locks end with the process, however it ends, and a fork
    does not inherit them. Where no file can be locked every process holds the right, and counts as
    the last.

    Args:
        registry: one without a server is seen by no other process; every process holds the right.
        folder: where the lock files are; by default a folder of this user in the temporary folder.

    Attributes:
        held: whether this process holds the right.
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
        self._is_shared = bool(server) and fcntl is not None
        self._file: int | None = None
        self._is_last: bool | None = None
        self.held = False

    @property
    def present(self) -> bool:
        """Whether other processes see this one as a worker of the address."""
        return self._file is not None

    def acquire(self) -> bool:
        """Try to get the right, without waiting; return whether this process holds it now."""
        if not self.held:
            try:
                self.held = not self._is_shared or (self._sign_on() and self._try_lock(_OWNER_BYTE))
            except OSError as error:
                logger.info(
                    "the workers of one address cannot be told apart; each registers itself: %s",
                    error,
                )
                self._close()
                self.held = True
        return self.held

    def sign_off(self) -> bool:
        """End this process's presence; return whether it was the last one present.

        No other process can sign on until `release`.
        """
        if self._file is None:
            return self.held
        if self._is_last is None:
            # Signed off before the question, and the question asked once: of two processes that
            # sign off at the same moment exactly one finds itself the last.
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _PRESENCE_BYTE)
            self._is_last = self._try_lock(_PRESENCE_BYTE) and self._is_current(self._file)
        return self._is_last

    def release(self) -> None:
        """Give the right to another process; signs off if that was not done."""
        if self.sign_off() and self._file is not None:
            self._path.unlink(missing_ok=True)
        self.held, self._is_last = False, None
        self._close()

    def _sign_on(self) -> bool:
        if self._file is None:
            folder = self._folder or _user_folder()
            _create_private_folder(folder)
            self._path = folder / self._name
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if not (
                self._try_lock(_PRESENCE_BYTE, exclusive=False) and self._is_current(self._file)
            ):
                self._close()
        return self._file is not None

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            os.close(file)  # which releases both locks

    def _try_lock(self, byte: int, *, exclusive: bool = True) -> bool:
        # POSIX record locks (lockf), not flock: they belong to the process, so a forked child that
        # inherits the descriptor holds nothing.
        operation = (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB
        try:
            fcntl.lockf(cast(int, self._file), operation, 1, byte)
        except (BlockingIOError, PermissionError):  # POSIX leaves open which
            return False
        return True

    def _is_current(self, file: int) -> bool:
        """Whether the locked file is still the one at the path: the last process removes it."""
        try:
            return os.path.samestat(os.fstat(file), self._path.stat())
        except FileNotFoundError:
            return False


def _user_folder() -> Path:
    import tempfile

    owner = os.getuid() if hasattr(os, "getuid") else 0
    return Path(tempfile.gettempdir()) / f"microservice-kit-{owner}"


def _create_private_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    # A folder in /tmp may be a trap that another user left there.
    if folder.is_symlink() or status.st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user; remove it")
