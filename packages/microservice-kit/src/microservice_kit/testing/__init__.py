"""An application opened for a test: without servers and sockets, each part under the test's control.

```python
async with open_app(micro, app) as opened:
    await opened.mesh.start("inventory", "10.0.0.1:80", lambda request: httpx.Response(200, json=3))
    response = await opened.http.get("/stock/apple")
```

`pytest_plugins = ["microservice_kit.testing.fixtures"]` provides the fixture `opened_app` (extra
`testing`).
"""

from __future__ import annotations

from .app import OpenedApp, open_app

__all__ = ("OpenedApp", "open_app")
