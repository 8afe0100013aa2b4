"""Workers that serve one address: one keeps it registered, another takes over when that one ends."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

from microservice_core import ServerAddressed, ServiceInstance, ServiceRegistry

try:
    import fcntl
except ImportError:  # Windows: no prefork servers there either
    fcntl = None  # type: ignore[assignment]

__all__ = ("AddressTurn",)

logger = logging.getLogger(__name__)


class AddressTurn:
    """The right to tell a registry about an instance, held by one process of a machine at a time.

    The workers of a prefork server share an address. If each registered it, the first to end would
    take it from all. The right ends with the process, whatever way that goes, and is not handed
    down by a fork. Where no file can be locked every process has it.

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
        self.held = False

    def take(self) -> bool:
        """Whether the right is this process's now; asking again is fine."""
        if not self.held:
            try:
                self.held = not self._shared or self._lock()
            except OSError as error:
                logger.info("workers of one address are not told apart: %s", error)
                self.held = True
        return self.held

    def give_up(self) -> None:
        """Let another process have it."""
        self.held = False
        file, self._file = self._file, None
        if file is not None:
            self._path.unlink(missing_ok=True)
            os.close(file)

    def _lock(self) -> bool:
        folder = self._folder or _folder_of_this_user()
        _make_private(folder)
        self._path = folder / self._name
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if _locked(file) and self._is_current(file):
                self._file = file
        finally:
            if self._file is None:
                os.close(file)
        return self._file is not None

    def _is_current(self, file: int) -> bool:
        """Whether nobody removed the file between the opening and the locking of it."""
        try:
            return os.path.samestat(os.fstat(file), self._path.stat())
        except FileNotFoundError:
            return False


def _locked(file: int) -> bool:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # POSIX leaves open which
        return False
    return True


def _folder_of_this_user() -> Path:
    import tempfile

    owner = os.getuid() if hasattr(os, "getuid") else 0
    return Path(tempfile.gettempdir()) / f"microservice-kit-{owner}"


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if folder.is_symlink() or found.st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else; remove it")
