"""A Nacos server for tests: the responses of the real one, on loopback or as an ASGI app.

One contract suite runs against it and against a real Nacos 3.1. Differences that remain:

- an instance turns unhealthy or is removed the moment its time is up; the real server checks every
  5 s;
- there is one node: no Raft, no cluster synchronisation;
- users and permissions take effect at once; the real server re-reads them every 15 s;
- gRPC, the console and the v1/v2 APIs (except for the v1 login) are missing.
"""

from ._server import FakeNacosServer, Fault, ManualClock

__all__ = ("FakeNacosServer", "Fault", "ManualClock")
