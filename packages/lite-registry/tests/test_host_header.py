"""The Host field: its syntax, and names that stand for somebody else's DNS."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lite_registry import LiteRegistryServer
from lite_registry.host_header import can_be_rebound, is_valid_host
from lite_registry.http_client import HttpClient


@pytest.mark.parametrize(
    "host", ["", "a", "a.b:80", "127.0.0.1:8080", "[::1]:8080", "x_y", "a%20b", "h:"]
)
def test_legal_hosts(host: str) -> None:
    assert is_valid_host(host.encode())


@given(st.text(max_size=20), st.sampled_from(' /\\@?#"<>'), st.text(max_size=20))
def test_no_host_holds_a_delimiter(before: str, delimiter: str, after: str) -> None:
    assert not is_valid_host((before + delimiter + after).encode())


@pytest.mark.parametrize(
    ("host", "rebound"),
    [
        ("evil.example", True),
        ("EVIL.example:8080", True),
        ("evil.example.", True),
        ("127.0.0.1.evil.example", True),
        ("127.0.0.1:8080", False),
        ("192.168.0.7", False),
        ("[::1]:8080", False),
        ("localhost:8080", False),
        ("registry.localhost", False),
        ("registry", False),
        ("", False),
    ],
)
def test_names_of_the_public_dns_can_be_rebound(host: str, rebound: bool) -> None:
    assert can_be_rebound(host.encode()) is rebound


@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_a_server_on_loopback_without_tokens_refuses_foreign_names(
    server: LiteRegistryServer, method: str
) -> None:
    path = "/v1/instances/orders/a"
    document = {"ip": "10.0.0.7", "port": 80} if method == "PUT" else None
    response = await HttpClient(server.url).request(
        method, path, document=document, headers={"host": "evil.example"}
    )
    assert response.status == 421
    assert "--token-file" in str(response.json()["detail"])


@pytest.mark.parametrize("options", [{"tokens": ["a-secret-of-some-length"]}, {"insecure": True}])
async def test_with_a_token_or_by_request_every_name_is_served(options: dict[str, object]) -> None:
    async with LiteRegistryServer(port=0, **options) as server:  # type: ignore[arg-type]
        response = await HttpClient(server.url).request(
            "GET", "/healthz", headers={"host": "registry.example"}
        )
        assert response.status == 200
