import base64
import json
import stat
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from lite_registry import SettingsError
from lite_registry.http_client import HttpClientError
from lite_registry.http_listener import HttpListener
from lite_registry.http_reader import Limits
from lite_registry.kubernetes.access import ApiServer, read_service_account
from lite_registry.kubernetes.credentials import TokenFileCredentials
from lite_registry.kubernetes.kubeconfig import read_kubeconfig
from lite_registry.request import Request
from lite_registry.response import Response


def kubeconfig(folder: Path, *, user: dict[str, Any], **cluster: Any) -> Path:
    file = folder / "config"
    document = {
        "current-context": "here",
        "contexts": [
            {"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "shop"}},
            {"name": "there", "context": {"cluster": "c"}},
        ],
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:6443", **cluster}}],
        "users": [{"name": "u", "user": user}],
    }
    file.write_text(json.dumps(document))
    return file


async def authorization(api: ApiServer) -> str:
    """The header that a client of the API server sends."""
    received: list[str] = []

    def handle(request: Request) -> Response:
        received.append(request.get_header(b"authorization"))
        return Response(200)

    listener = HttpListener(handle, limits=Limits())
    port = await listener.listen("127.0.0.1", 0)
    api.url = f"http://127.0.0.1:{port}"
    await (await api.create_client()).request("GET", "/version")
    await listener.aclose(0.0)
    return received[0]


async def test_a_token_and_a_namespace_are_read(tmp_path: Path) -> None:
    api = read_kubeconfig(kubeconfig(tmp_path, user={"token": "t0"}))
    assert (api.url, api.namespace) == ("http://127.0.0.1:6443", "shop")
    assert await authorization(api) == "Bearer t0"


async def test_another_context_can_be_chosen(tmp_path: Path) -> None:
    api = read_kubeconfig(kubeconfig(tmp_path, user={"token": "t0"}), context="there")
    assert api.namespace == "default"
    assert await authorization(api) == ""


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_a_token_file_is_read_again_every_minute_and_when_it_was_refused(
    tmp_path: Path,
) -> None:
    clock, file = Clock(), tmp_path / "token"
    file.write_text("first\n")
    tokens = TokenFileCredentials(file, clock=clock)
    assert await tokens.get_token() == "first"
    file.write_text("second")
    assert await tokens.get_token() == "first"
    clock.now = 60.0
    assert await tokens.get_token() == "second"
    file.write_text("third")
    tokens.discard()
    assert await tokens.get_token() == "third"


async def test_a_token_file_of_a_kubeconfig_is_found_beside_it(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("t1")
    api = read_kubeconfig(kubeconfig(tmp_path, user={"tokenFile": "secret"}))
    assert await authorization(api) == "Bearer t1"
    (tmp_path / "secret").unlink()
    api.discard_credentials()
    with pytest.raises(HttpClientError, match=r"credentials for http://127.0.0.1"):
        await api.create_client()


def plugin(folder: Path, output: str, *, code: int = 0) -> dict[str, Any]:
    script = folder / "plugin"
    script.write_text(
        f"#!{sys.executable}\nimport os, sys\n"
        f"open({str(folder / 'calls')!r}, 'a').write(os.environ['KUBERNETES_EXEC_INFO'] + '\\n')\n"
        f"print({output!r})\nsys.exit({code})\n"
    )
    script.chmod(stat.S_IRWXU)
    return {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": "./plugin",
            "args": ["--please"],
            "env": [{"name": "FOO", "value": "bar"}],
            "provideClusterInfo": True,
        }
    }


def credential(**status: str) -> str:
    return json.dumps({"kind": "ExecCredential", "status": status})


async def test_a_plugin_runs_once_until_its_token_expires(tmp_path: Path) -> None:
    user = plugin(tmp_path, credential(token="p0", expirationTimestamp="2999-01-01T00:00:00Z"))
    api = read_kubeconfig(kubeconfig(tmp_path, user=user))
    for _ in range(2):
        assert await authorization(api) == "Bearer p0"
    (info,) = (tmp_path / "calls").read_text().splitlines()
    assert json.loads(info)["spec"] == {
        "interactive": False,
        "cluster": {"server": "http://127.0.0.1:6443"},
    }
    api.discard_credentials()
    await authorization(api)
    assert len((tmp_path / "calls").read_text().splitlines()) == 2


async def test_with_an_expired_token_the_plugin_runs_again_each_time(tmp_path: Path) -> None:
    user = plugin(tmp_path, credential(token="p0", expirationTimestamp="2001-01-01T00:00:00Z"))
    api = read_kubeconfig(kubeconfig(tmp_path, user=user))
    for _ in range(2):
        await authorization(api)
    assert len((tmp_path / "calls").read_text().splitlines()) == 2


@pytest.mark.parametrize(("output", "code"), [("secret", 0), (credential(token="secret"), 3)])
async def test_a_plugin_that_fails_is_reported_without_its_output(
    tmp_path: Path, output: str, code: int
) -> None:
    api = read_kubeconfig(kubeconfig(tmp_path, user=plugin(tmp_path, output, code=code)))
    with pytest.raises(HttpClientError, match=f"ended with {code} and printed no") as caught:
        await api.create_client()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "line 1: it must be JSON"),
        ("{}", "there is no current-context; set one or give --context"),
        ('{"current-context": "x"}', "there is no context 'x' in contexts"),
        (
            '{"current-context": "x", "contexts": [{"name": "x", "context": {}}]}',
            "no field 'cluster'",
        ),
    ],
)
def test_a_wrong_file_is_one_clear_error(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "config"
    file.write_text(content)
    with pytest.raises(SettingsError, match=message) as caught:
        read_kubeconfig(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("user", "cluster", "message"),
    [
        ({"auth-provider": {"name": "gcp"}}, {}, "use an exec plugin"),
        ({"exec": {"command": "x", "apiVersion": "v0"}}, {}, "must be v1 or v1beta1, not 'v0'"),
        ({}, {"proxy-url": "http://p"}, "proxy-url is not supported"),
        ({}, {"server": "tcp://x"}, "server must be an http or https address"),
        ({}, {"certificate-authority-data": "!"}, "Error"),
    ],
)
def test_an_unsupported_field_is_named(
    tmp_path: Path, user: dict[str, Any], cluster: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        read_kubeconfig(kubeconfig(tmp_path, user=user, **cluster))


def test_a_missing_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="FileNotFoundError"):
        read_kubeconfig(tmp_path / "none")


def account(folder: Path) -> Path:
    (folder / "token").write_text("sa-token")
    (folder / "namespace").write_text("shop\n")
    (folder / "ca.crt").write_text("none yet")
    return folder


def test_a_pod_uses_its_service_account(tmp_path: Path) -> None:
    environment = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}
    api = read_service_account(environment, folder=account(tmp_path))
    assert (api.url, api.namespace) == ("https://[fd00::1]:6443", "shop")
    environment = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    assert read_service_account(environment, folder=tmp_path).url == "https://10.0.0.1:443"


async def test_a_broken_certificate_is_an_error(tmp_path: Path) -> None:
    api = read_service_account({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, folder=account(tmp_path))
    with pytest.raises(HttpClientError, match=r"credentials for https://10.0.0.1"):
        await api.create_client()


def test_outside_of_a_pod_the_error_says_so(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="this is not a pod of a cluster"):
        read_service_account({})
    with pytest.raises(SettingsError, match="set automountServiceAccountToken"):
        read_service_account({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, folder=tmp_path / "none")


async def test_data_of_a_certificate_leaves_no_file_behind(tmp_path: Path) -> None:
    folder = Path(tempfile.gettempdir())
    before = set(folder.glob("lite-registry-*"))  # noqa: ASYNC240
    data = base64.b64encode(b"no certificate").decode()
    user = {"client-certificate-data": data, "client-key-data": data}
    config = kubeconfig(tmp_path, user=user, server="https://127.0.0.1:1")
    with pytest.raises(HttpClientError, match="credentials"):
        await read_kubeconfig(config).create_client()
    assert set(folder.glob("lite-registry-*")) == before  # noqa: ASYNC240


@pytest.mark.parametrize("insecure", [True, False])
async def test_the_certificate_is_verified_unless_the_file_turns_that_off(
    tmp_path: Path, insecure: bool
) -> None:
    cluster = {"server": "https://127.0.0.1:1", "insecure-skip-tls-verify": insecure}
    api = read_kubeconfig(kubeconfig(tmp_path, user={}, **cluster))
    assert api.verify is not insecure
    with pytest.raises(HttpClientError, match=r"127\.0\.0\.1:1: "):
        await (await api.create_client()).request("GET", "/version")


async def test_a_plugin_may_print_a_client_certificate(tmp_path: Path) -> None:
    output = credential(clientCertificateData="no pem", clientKeyData="no pem")
    config = kubeconfig(tmp_path, user=plugin(tmp_path, output), server="https://127.0.0.1:1")
    with pytest.raises(HttpClientError, match=r"credentials for https://127.0.0.1:1: .*PEM"):
        await read_kubeconfig(config).create_client()


async def test_a_token_file_has_no_certificate_and_a_missing_plugin_is_an_error(
    tmp_path: Path,
) -> None:
    assert TokenFileCredentials(tmp_path / "token").get_certificate() is None
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": "/none"}}
    with pytest.raises(HttpClientError, match="credentials for"):
        await read_kubeconfig(kubeconfig(tmp_path, user=user)).create_client()
