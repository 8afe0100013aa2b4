"""The contract suite against the real server that NACOS_SERVER_ADDR names."""

import pytest
from required_servers import read_variable

from nacos_client.testing.admin_contract import AdminContract
from nacos_client.testing.contract import NacosContract, Target


class TestOnRealServer(NacosContract, AdminContract):
    @pytest.fixture
    def target(self) -> Target:
        return Target(
            read_variable("NACOS_SERVER_ADDR"),
            read_variable("NACOS_USERNAME"),
            read_variable("NACOS_PASSWORD"),
        )
