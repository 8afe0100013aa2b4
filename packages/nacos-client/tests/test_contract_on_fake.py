from collections.abc import Iterator

import pytest

from nacos_client.testing import FakeNacosServer
from nacos_client.testing.admin_contract import AdminContract
from nacos_client.testing.contract import NacosContract, Target


class TestOnFake(NacosContract, AdminContract):
    @pytest.fixture
    def target(self) -> Iterator[Target]:
        with FakeNacosServer(password="fake-only") as server:
            yield Target(server.address, server.username, server.password)
