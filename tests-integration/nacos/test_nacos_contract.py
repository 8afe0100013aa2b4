"""The contract suite against the real server that NACOS_SERVER_ADDR names."""

import os

import pytest

from nacos_client.testing.admin_contract import AdminContract
from nacos_client.testing.contract import NacosContract, Target


class TestOnRealServer(NacosContract, AdminContract):
    @pytest.fixture
    def target(self) -> Target:
        address = os.environ.get("NACOS_SERVER_ADDR")
        if not address:
            pytest.skip("NACOS_SERVER_ADDR is not set: no real Nacos to hold the contract against")
        return Target(address, os.environ["NACOS_USERNAME"], os.environ["NACOS_PASSWORD"])
