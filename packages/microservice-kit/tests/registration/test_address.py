import ipaddress

import pytest

from microservice_kit.registration.address import find_reachable_address


@pytest.mark.parametrize("registry", ["127.0.0.1:8848", "http://127.0.0.1:8080", "localhost:1"])
def test_a_registry_on_loopback_is_reached_from_loopback(registry: str) -> None:
    assert ipaddress.ip_address(find_reachable_address(registry)).is_loopback


def test_a_bare_ipv6_address_is_understood() -> None:
    assert ipaddress.ip_address(find_reachable_address("::1")).is_loopback


def test_without_a_registry_it_is_an_address_all_the_same() -> None:
    ipaddress.ip_address(find_reachable_address())


def test_a_name_that_does_not_resolve_leaves_loopback() -> None:
    assert find_reachable_address("nobody.invalid:8848") == "127.0.0.1"
