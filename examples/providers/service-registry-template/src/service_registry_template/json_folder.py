"""The engine: instances as JSON files. REPLACE this file by calls of your own engine.

`FOLDER/_NAMESPACE/_GROUP/_SERVICE/_INSTANCE.json` is one instance; its owner touches the file as a
heartbeat. A file is written to a draft and renamed: no reader sees half of one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote
from uuid import uuid4

from microservice_core import InvalidValueError, ServiceInstance

__all__ = ("JsonFolder", "Record", "Service", "check_names", "service_of")

MAX_NAME = 200
_LABELS = ("weight", "healthy", "enabled", "ephemeral", "cluster_name")


class Service(NamedTuple):
    """The service of an instance."""

    namespace_id: str
    group_name: str
    name: str


@dataclass(frozen=True, slots=True)
class Record:
    """One instance as it is stored.

    Attributes:
        ttl_seconds: how long it lives without a heartbeat.
        beat_ns: the time of the last heartbeat, in nanoseconds of the wall clock.
    """

    instance: ServiceInstance
    ttl_seconds: float
    beat_ns: int


class JsonFolder:
    """Reads and writes instances; every call may block.

    All raise `OSError` when the folder does not exist or cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, instance: ServiceInstance, ttl_seconds: float) -> None:
        """Write the instance, replacing an earlier one with its id."""
        self._refuse_missing_folder()
        path = self._path(instance)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{uuid4().hex}.draft")
        try:
            draft.write_text(json.dumps(_encode(instance, ttl_seconds)), encoding="utf-8")
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)

    def beat(self, instance: ServiceInstance) -> bool:
        """Renew the lease; False when the instance is not registered (any more)."""
        self._refuse_missing_folder()
        try:
            os.utime(self._path(instance))
        except FileNotFoundError:
            return False
        return True

    def remove(self, instance: ServiceInstance) -> None:
        """Remove the instance; an absent one is no error."""
        self._refuse_missing_folder()
        self._path(instance).unlink(missing_ok=True)

    def records(self, service: Service) -> list[Record]:
        """Read all instances of the service, including those whose lease has expired."""
        return [record for path in self._files(service) if (record := _decode(service, path))]

    def services(self, namespace_id: str, group_name: str) -> list[str]:
        """Return the names of all services that ever had an instance, in no order."""
        self._refuse_missing_folder()
        folder = self._folder.joinpath(_escape(namespace_id), _escape(group_name))
        try:
            names = [path.name for path in folder.iterdir()]
        except FileNotFoundError:
            return []
        return [unquote(name[1:]) for name in names if name.startswith("_")]

    def _files(self, service: Service) -> Iterator[Path]:
        self._refuse_missing_folder()
        return self._folder.joinpath(*map(_escape, service)).glob("_*.json")

    def _path(self, instance: ServiceInstance) -> Path:
        folder = self._folder.joinpath(*map(_escape, service_of(instance)))
        return folder / f"{_escape(instance.instance_id)}.json"

    def _refuse_missing_folder(self) -> None:
        # An unmounted folder is an outage, not the end of every instance.
        if not self._folder.is_dir():
            raise FileNotFoundError(f"{self._folder} does not exist")


def service_of(instance: ServiceInstance) -> Service:
    """Return the service of an instance."""
    return Service(instance.namespace_id, instance.group_name, instance.service_name)


def check_names(service: Service, instance_id: str = "") -> None:
    """Refuse what cannot be stored, before anything is read or written.

    Raises:
        InvalidValueError: an empty service name, or a name that is too long.
    """
    if not service.name:
        raise InvalidValueError("service_name", "", "a non-empty name")
    for field, name in (*service._asdict().items(), ("instance_id", instance_id)):
        if len(_escape(name)) > MAX_NAME:
            raise InvalidValueError(field, name, f"at most {MAX_NAME} characters when escaped")


def _escape(name: str) -> str:
    return "_" + quote(name, safe="")  # never empty, never `..`, never with a separator


def _encode(instance: ServiceInstance, ttl_seconds: float) -> dict[str, object]:
    return {
        "ip": instance.ip,
        "port": instance.port,
        "instance_id": instance.instance_id,
        "metadata": dict(instance.metadata),
        "ttl_seconds": ttl_seconds,
        **{name: getattr(instance, name) for name in _LABELS},
    }


def _decode(service: Service, path: Path) -> Record | None:
    """Decode a file; None when it was removed meanwhile, or is no instance."""
    with suppress(FileNotFoundError, IsADirectoryError, ValueError, KeyError, TypeError):
        document = json.loads(path.read_text(encoding="utf-8"))
        instance = ServiceInstance(
            service.name,
            document["ip"],
            document["port"],
            metadata=document["metadata"],
            instance_id=document["instance_id"],
            namespace_id=service.namespace_id,
            group_name=service.group_name,
        )
        labelled = replace(instance, **{name: document[name] for name in _LABELS})
        ttl_seconds = float(document["ttl_seconds"])
        if ttl_seconds > 0:
            return Record(labelled, ttl_seconds, path.stat().st_mtime_ns)
    return None
