"""The order of stopping: deregister, drain, close.

1. **Deregister.** `leave_registry` below: readiness fails, every instance is deregistered or handed
   over to another worker, then callers get `leave_seconds` to notice. Requests are still served.
   SIGTERM starts it (`graceful_stop.py`), or the end of the application's lifespan
   (`web/asgi.py`), or the application itself (`OpenModule.leave`).
2. **Drain.** The server stops accepting and finishes the requests it has. That is the server's part:
   `GracefulStop` forwards SIGTERM to it only after step 1.
3. **Close.** `MicroserviceModule.__aexit__` closes in the reverse order of opening: background
   tasks, registrar (which deregisters what step 1 did not), service client, registry, the module is
   no longer current, health checks, configuration, configuration center.

Each step is needed before the next: callers that still know the instance would meet a closed socket
without step 1, and a request in progress a closed client without step 2.
"""

from __future__ import annotations

import asyncio

from .health.checks import Health
from .registration.registrar import Registrar

__all__ = ("leave_registry",)


async def leave_registry(
    health: Health, registrar: Registrar | None, *, leave_seconds: float
) -> None:
    """Take this process out of service, without closing anything.

    Args:
        leave_seconds: how long callers get to notice.
    """
    health.draining = True
    if registrar is not None and registrar.registrations:
        await registrar.aclose()
        await asyncio.sleep(leave_seconds)
