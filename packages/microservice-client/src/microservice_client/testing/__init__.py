"""A mesh of instances without sockets: for testing what calls services by name.

```python
mesh = FakeMesh()
await mesh.start("orders", "10.0.0.1:80", lambda request: httpx.Response(200))
async with AsyncServiceClient(mesh.registry, transport=mesh) as client:
    await client.get("orders", "/")
```

`pytest_plugins = ["microservice_client.testing.fixtures"]` gives tests `fake_mesh` and a
`service_client` on it (extra `testing`).
"""

from __future__ import annotations

from .mesh import Asgi, FakeMesh, Fault, Handler

__all__ = ("Asgi", "FakeMesh", "Fault", "Handler")
