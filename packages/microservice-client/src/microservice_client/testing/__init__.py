"""Instances without sockets, for tests of code that calls services by name.

```python
mesh = FakeMesh()
await mesh.start("orders", "10.0.0.1:80", lambda request: httpx.Response(200))
async with AsyncServiceClient(mesh.registry, transport=mesh) as client:
    await client.get("orders", "/")
```

`pytest_plugins = ["microservice_client.testing.fixtures"]` provides the fixtures `fake_mesh` and
`service_client` (extra `testing`).
"""

from __future__ import annotations

from .mesh import Asgi, FakeMesh, Fault, Handler

__all__ = ("Asgi", "FakeMesh", "Fault", "Handler")
