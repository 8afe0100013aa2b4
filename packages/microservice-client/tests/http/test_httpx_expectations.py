"""What users of an httpx client expect of it, over our transport as over httpx's own."""

from collections.abc import AsyncIterator

import httpx
import pytest

from microservice_client import AsyncServiceClient, AsyncServiceTransport, CallOptions
from microservice_client.testing import FakeMesh

A = "10.0.0.1:80"


def answer(request: httpx.Request) -> httpx.Response:
    match request.url.path:
        case "/redirect":
            return httpx.Response(302, headers={"location": "/target"})
        case "/items" | "/strange":
            rest = "/items/" if request.url.path == "/items" else ":port/"
            location = f"http://{request.headers['host']}{rest}"
            return httpx.Response(307, headers={"location": location})
        case "/away":
            return httpx.Response(307, headers={"location": "http://stock/target"})
        case "/cookie":
            return httpx.Response(200, headers={"set-cookie": "session=1; Path=/"})
        case "/digest" if "authorization" not in request.headers:
            challenge = 'Digest realm="r", nonce="n", qop="auth"'
            return httpx.Response(401, headers={"www-authenticate": challenge})
        case _:
            return httpx.Response(
                200,
                json={
                    "path": request.url.path,
                    "cookie": request.headers.get("cookie", ""),
                    "authorization": request.headers.get("authorization", "")[:6],
                    "body": request.content.decode(),
                },
            )


@pytest.fixture
async def mesh() -> FakeMesh:
    mesh = FakeMesh()
    await mesh.start("orders", A, answer)
    await mesh.start("stock", "10.0.0.2:80", answer)
    return mesh


@pytest.fixture
async def http(mesh: FakeMesh) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        AsyncServiceClient(mesh.registry, transport=mesh) as client,
        httpx.AsyncClient(
            transport=AsyncServiceTransport(client), base_url="http://orders"
        ) as http,
    ):
        yield http
    assert mesh.open_bodies == 0


async def test_redirects_are_followed_where_asked_for(http: httpx.AsyncClient) -> None:
    assert (await http.get("/redirect")).is_redirect
    followed = await http.get("/redirect", follow_redirects=True)
    assert followed.json()["path"] == "/target"
    assert [one.status_code for one in followed.history] == [302]


async def test_a_redirect_may_lead_to_another_service(
    http: httpx.AsyncClient, mesh: FakeMesh
) -> None:
    followed = await http.post("/away", content=b"kept", follow_redirects=True)
    assert followed.json()["body"] == "kept"
    assert mesh.request_counts["10.0.0.2:80"] == 1


async def test_cookies_are_kept_per_service(http: httpx.AsyncClient) -> None:
    await http.get("/cookie")
    assert (await http.get("/")).json()["cookie"] == "session=1"
    assert (await http.get("http://stock/")).json()["cookie"] == ""


async def test_auth_flows_with_several_requests_work(http: httpx.AsyncClient) -> None:
    response = await http.get("/digest", auth=httpx.DigestAuth("u", "p"))
    assert response.json()["authorization"] == "Digest"


async def test_event_hooks_see_request_and_response(http: httpx.AsyncClient) -> None:
    seen: list[str] = []

    async def on_request(request: httpx.Request) -> None:
        seen.append(str(request.url))

    async def on_response(response: httpx.Response) -> None:
        seen.append(f"{response.status_code} {response.request.url.path}")

    http.event_hooks = {"request": [on_request], "response": [on_response]}
    await http.get("/v1")
    assert seen == ["http://orders/v1", "200 /v1"]


async def test_a_stream_is_read_once_and_knows_how_long_it_took(http: httpx.AsyncClient) -> None:
    async with http.stream("GET", "/v1") as response:
        assert await response.aread()
        assert response.elapsed.total_seconds() >= 0
    async with http.stream("GET", "/v1") as response:
        assert [chunk async for chunk in response.aiter_raw()]
        with pytest.raises(httpx.StreamConsumed):
            await anext(response.aiter_raw())
    assert response.is_closed


async def test_a_body_may_be_a_stream(http: httpx.AsyncClient) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    assert (await http.put("/v1", content=body())).json()["body"] == "ab"


async def test_a_mounted_transport_leaves_other_hosts_alone(mesh: FakeMesh) -> None:
    async with AsyncServiceClient(mesh.registry, transport=mesh) as client:
        mounts = {"http://orders": AsyncServiceTransport(client)}
        elsewhere = httpx.MockTransport(lambda _: httpx.Response(204))
        async with httpx.AsyncClient(transport=elsewhere, mounts=mounts) as http:
            assert (await http.get("http://orders/v1")).status_code == 200
            assert (await http.get("http://example.org/")).status_code == 204


async def test_options_of_a_call_travel_in_its_extensions(http: httpx.AsyncClient) -> None:
    options = CallOptions(raise_on="errors")
    with pytest.raises(httpx.HTTPStatusError):
        await http.get("/digest", extensions={"call_options": options})


async def test_the_own_client_gives_httpx_responses(mesh: FakeMesh) -> None:
    async with AsyncServiceClient(mesh.registry, transport=mesh) as client:
        response = await client.get("orders", "/v1", headers={"X-A": "1"})
        assert isinstance(response, httpx.Response)
        assert response.is_closed
        assert response.elapsed.total_seconds() >= 0
        assert response.request.headers["x-a"] == "1"
        assert response.request.headers["host"] == "orders"
        assert response.url == "http://orders/v1"


async def test_a_redirect_that_names_the_instance_leads_to_its_service(
    http: httpx.AsyncClient,
) -> None:
    response = await http.get("/items")
    assert response.headers["location"] == "http://orders/items/"
    followed = await http.get("/items", follow_redirects=True)
    assert followed.json()["path"] == "/items/"
    assert (await http.get("/away")).headers["location"] == "http://stock/target"
    with pytest.raises(httpx.RemoteProtocolError, match="Invalid URL"):
        await http.get("/strange")
