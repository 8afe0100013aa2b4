"""A Nacos that tests may kill: one for all of them, it takes a while to start."""

import random
from collections.abc import Iterator

import pytest
from own_servers import OwnServers


@pytest.fixture(scope="session")
def nacos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServers]:
    port = random.randrange(21000, 29000, 50)
    ports = ["--port", str(port), "--port", f"console={port + 1}"]
    servers = OwnServers("nacos", tmp_path_factory.mktemp("nacos"), ports)
    try:
        servers.up()
        yield servers
    finally:
        servers.down()
