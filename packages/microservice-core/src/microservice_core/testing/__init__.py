"""Tools for tests of users and providers: a manual clock, and contract suites for both ports.

`ManualClock` needs nothing; the contract suites need the extra `testing` (pytest, anyio).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .clock import ManualClock, settle

if TYPE_CHECKING:
    from .config_contract import ConfigCenterContract
    from .registry_contract import RegistrationHandoverContract, ServiceRegistryContract
    from .waiting import Recorder, eventually

__all__ = (
    "ConfigCenterContract",
    "ManualClock",
    "Recorder",
    "RegistrationHandoverContract",
    "ServiceRegistryContract",
    "eventually",
    "settle",
)

_LAZY = {
    "ConfigCenterContract": ".config_contract",
    "RegistrationHandoverContract": ".registry_contract",
    "ServiceRegistryContract": ".registry_contract",
    "Recorder": ".waiting",
    "eventually": ".waiting",
}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
