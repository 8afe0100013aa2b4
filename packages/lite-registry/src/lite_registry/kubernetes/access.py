"""Who we are to the API server: in-cluster service account or kubeconfig, with rotation.

Sources: https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/ and
https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
import os
import ssl
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol, cast

from lite_registry.errors import SettingsError
from lite_registry.http_client import HttpClient, HttpClientError

__all__ = ("ApiServer", "Credentials", "in_cluster", "read_kubeconfig")

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TOKEN_SECONDS = 60.0
EXEC_SECONDS = 30.0
EARLY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Pem:
    """A certificate or key: a file that may be replaced, or its content."""

    file: Path | None = None
    content: bytes = b""

    def stamp(self) -> object:
        """Changes when the file does."""
        if self.file is None:
            return self.content
        status = self.file.stat()
        return status.st_mtime_ns, status.st_ino, status.st_size

    def read(self) -> bytes:
        """The PEM text."""
        return self.file.read_bytes() if self.file else self.content


class Credentials(Protocol):
    """What proves who we are."""

    async def token(self) -> str:
        """The bearer token to send now; empty for none."""
        ...

    def certificate(self) -> tuple[Pem, Pem] | None:
        """The client certificate and its key."""
        ...

    def distrust(self) -> None:
        """The server did not accept it: get it anew next time."""
        ...


class ApiServer:
    """Makes clients with the credentials and certificates of this moment.

    Args:
        url: the API server's address.
        namespace: the namespace we live in.
        ca: the authority its certificate is checked against; None = those of the system.
        verify: False = `insecure-skip-tls-verify`.
        tls_server_name: the name its certificate carries, when it is not the host.
    """

    def __init__(
        self,
        url: str,
        *,
        namespace: str,
        credentials: Credentials,
        ca: Pem | None = None,
        verify: bool = True,
        tls_server_name: str | None = None,
    ) -> None:
        self.url = url
        self.namespace = namespace
        self._credentials = credentials
        self._ca = ca
        self._verify = verify
        self._tls_server_name = tls_server_name
        self._context: ssl.SSLContext | None = None
        self._context_stamp: object = None

    async def client(self) -> HttpClient:
        """A client for the next request.

        Raises:
            HttpClientError: credentials or certificates cannot be had just now.
        """
        try:
            token = await self._credentials.token()
            context = self._ssl_context() if self.url.startswith("https:") else None
        except (OSError, ValueError) as error:
            raise HttpClientError(f"credentials for {self.url}: {error}") from error
        headers = {"accept": "application/json", "user-agent": "lite-registry"}
        if token:
            headers["authorization"] = f"Bearer {token}"
        return HttpClient(
            self.url, headers=headers, ssl_context=context, server_hostname=self._tls_server_name
        )

    def distrust(self) -> None:
        """The server answered 401: get the credentials anew."""
        self._credentials.distrust()

    def _ssl_context(self) -> ssl.SSLContext:
        pair = self._credentials.certificate()
        stamp = [pem.stamp() for pem in (self._ca, *(pair or ())) if pem]
        if self._context is None or stamp != self._context_stamp:
            self._context = self._make_context(pair)
            self._context_stamp = stamp
        return self._context

    def _make_context(self, pair: tuple[Pem, Pem] | None) -> ssl.SSLContext:
        cadata = self._ca.read().decode("ascii") if self._ca else None
        context = ssl.create_default_context(cadata=cadata)
        if not self._verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if pair is not None:
            _load_pair(context, *pair)
        return context


def _load_pair(context: ssl.SSLContext, certificate: Pem, key: Pem) -> None:
    # ssl takes paths only: content goes through a file that nobody else can read.
    handle, path = tempfile.mkstemp(prefix="lite-registry-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(certificate.read() + b"\n" + key.read())
        context.load_cert_chain(path)
    finally:
        Path(path).unlink()


@dataclass(slots=True)
class StaticCredentials:
    """A token or a client certificate that is written down."""

    bearer: str = ""
    pair: tuple[Pem, Pem] | None = None

    async def token(self) -> str:
        return self.bearer

    def certificate(self) -> tuple[Pem, Pem] | None:
        return self.pair

    def distrust(self) -> None:
        """There is nothing to get anew."""


@dataclass(slots=True)
class TokenFile:
    """A token in a file that is replaced before it expires, such as a service account's."""

    file: Path
    clock: Callable[[], float] = time.monotonic
    _token: str = ""
    _read_at: float = float("-inf")

    async def token(self) -> str:
        if self.clock() - self._read_at >= TOKEN_SECONDS:
            self._token = self.file.read_text(encoding="ascii").strip()
            self._read_at = self.clock()
        return self._token

    def certificate(self) -> tuple[Pem, Pem] | None:
        return None

    def distrust(self) -> None:
        self._read_at = float("-inf")


@dataclass(slots=True)
class ExecPlugin:
    """A program that prints credentials; asked again when they expire."""

    command: list[str]
    environment: Mapping[str, str]
    api_version: str
    cluster: Mapping[str, object] | None = None
    wall_clock: Callable[[], float] = time.time
    _status: dict[str, object] = field(default_factory=dict)
    _expires_at: float = float("-inf")

    async def token(self) -> str:
        if self.wall_clock() >= self._expires_at - EARLY_SECONDS:
            self._status = await self._run()
            expires = self._status.get("expirationTimestamp")
            self._expires_at = _timestamp(expires) if expires else float("inf")
        return str(self._status.get("token") or "")

    def certificate(self) -> tuple[Pem, Pem] | None:
        certificate = self._status.get("clientCertificateData")
        key = self._status.get("clientKeyData")
        if not isinstance(certificate, str) or not isinstance(key, str):
            return None
        return Pem(content=certificate.encode()), Pem(content=key.encode())

    def distrust(self) -> None:
        self._expires_at = float("-inf")

    async def _run(self) -> dict[str, object]:
        spec: dict[str, object] = {"interactive": False}
        if self.cluster is not None:
            spec["cluster"] = self.cluster
        info = {"apiVersion": self.api_version, "kind": "ExecCredential", "spec": spec}
        process = await asyncio.create_subprocess_exec(
            *self.command,
            env={**os.environ, **self.environment, "KUBERNETES_EXEC_INFO": json.dumps(info)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(EXEC_SECONDS):
                printed, _ = await process.communicate()
        except TimeoutError:
            raise ValueError(f"{self.command[0]!r} took over {EXEC_SECONDS:g} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return self._credential(process.returncode or 0, printed)

    def _credential(self, code: int, printed: bytes) -> dict[str, object]:
        # What it printed may hold a token: it is never part of an error.
        with contextlib.suppress(ValueError, AttributeError):
            status = json.loads(printed).get("status")
            if code == 0 and isinstance(status, dict):
                return status
        raise ValueError(f"{self.command[0]!r} ended with {code} and printed no ExecCredential")


def _timestamp(text: object) -> float:
    return datetime.fromisoformat(str(text)).timestamp()


def in_cluster(environment: Mapping[str, str], *, folder: Path = SERVICE_ACCOUNT) -> ApiServer:
    """Access with the service account of the pod we run in.

    Raises:
        SettingsError: this is no pod, or it has no service account token.
    """
    host = environment.get("KUBERNETES_SERVICE_HOST", "")
    port = environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise SettingsError(
            "this is no pod of a cluster (KUBERNETES_SERVICE_HOST is not set); give --kubeconfig"
        )
    try:
        (folder / "token").read_bytes()
        namespace = (folder / "namespace").read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(
            f"the pod's service account cannot be read ({error}); "
            "set automountServiceAccountToken, or give --kubeconfig"
        ) from error
    return ApiServer(
        f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        namespace=namespace,
        credentials=TokenFile(folder / "token"),
        ca=Pem(folder / "ca.crt"),
    )


def read_kubeconfig(path: Path, *, context: str = "") -> ApiServer:
    """Access as a kubeconfig file describes it.

    Raises:
        SettingsError: naming the file, the field and what is wrong with it.
    """
    try:
        return _from_kubeconfig(_parse(path), path.parent, context)
    except (KeyError, TypeError, ValueError, OSError, binascii.Error) as error:
        if isinstance(error, SettingsError):
            raise SettingsError(f"kubeconfig {str(path)!r}: {error}") from error
        raise SettingsError(
            f"kubeconfig {str(path)!r}: {type(error).__name__} {error}; correct it, "
            "`kubectl config view` shows what is in it"
        ) from error


def _parse(path: Path) -> dict[str, object]:
    text = path.read_text(encoding="utf-8")
    if text.lstrip().startswith("{"):
        document = json.loads(text)
    else:
        try:
            import yaml
        except ImportError as error:
            raise SettingsError('it is YAML: pip install "lite-registry[yaml]"') from error
        try:
            document = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise SettingsError(f"it is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise SettingsError("it is no object; write one with clusters, users and contexts")
    return document


def _from_kubeconfig(config: dict[str, object], folder: Path, context: str) -> ApiServer:
    name = context or str(config.get("current-context") or "")
    if not name:
        raise SettingsError("there is no current-context; set one or give --context")
    chosen = _entry(config, "contexts", name, "context")
    cluster = _entry(config, "clusters", str(chosen["cluster"]), "cluster")
    user = _entry(config, "users", str(chosen["user"]), "user") if chosen.get("user") else {}
    if cluster.get("proxy-url"):
        raise SettingsError("proxy-url is not supported; use a context without it")
    server = str(cluster["server"])
    if not server.startswith(("http://", "https://")):
        raise SettingsError(f"server must be an http or https address, not {server!r}")
    return ApiServer(
        server,
        namespace=str(chosen.get("namespace") or "default"),
        credentials=_credentials(user, cluster, folder),
        ca=_pem(cluster, "certificate-authority", folder),
        verify=not cluster.get("insecure-skip-tls-verify"),
        tls_server_name=cast("str | None", cluster.get("tls-server-name")),
    )


def _entry(config: dict[str, object], section: str, name: str, kind: str) -> dict[str, object]:
    entries = config.get(section) or []
    for entry in cast("list[dict[str, object]]", entries):
        if entry.get("name") == name:
            return cast("dict[str, object]", entry.get(kind) or {})
    raise SettingsError(f"there is no {kind} {name!r} in {section}; correct the name")


def _credentials(user: dict[str, object], cluster: dict[str, object], folder: Path) -> Credentials:
    if user.get("auth-provider"):
        raise SettingsError("auth-provider was removed from Kubernetes; use an exec plugin")
    if plugin := user.get("exec"):
        return _exec_plugin(cast("dict[str, object]", plugin), cluster, folder)
    if user.get("tokenFile"):
        return TokenFile(folder / str(user["tokenFile"]))
    certificate = _pem(user, "client-certificate", folder)
    key = _pem(user, "client-key", folder)
    pair = (certificate, key) if certificate and key else None
    return StaticCredentials(str(user.get("token") or ""), pair)


def _exec_plugin(plugin: dict[str, object], cluster: dict[str, object], folder: Path) -> ExecPlugin:
    command = str(plugin["command"])
    if "/" in command and not command.startswith("/"):
        command = str(folder / command)
    api_version = str(plugin.get("apiVersion") or "")
    if api_version not in {
        "client.authentication.k8s.io/v1",
        "client.authentication.k8s.io/v1beta1",
    }:
        raise SettingsError(f"exec apiVersion must be v1 or v1beta1, not {api_version!r}")
    variables = cast("list[dict[str, str]]", plugin.get("env") or [])
    shown = {"server", "certificate-authority-data"}
    told: dict[str, object] = {key: value for key, value in cluster.items() if key in shown}
    return ExecPlugin(
        command=[command, *map(str, cast("list[object]", plugin.get("args") or []))],
        environment={variable["name"]: variable["value"] for variable in variables},
        api_version=api_version,
        cluster=told if plugin.get("provideClusterInfo") else None,
    )


def _pem(section: dict[str, object], name: str, folder: Path) -> Pem | None:
    if data := section.get(f"{name}-data"):
        return Pem(content=base64.b64decode(str(data), validate=True))
    return Pem(folder / str(section[name])) if section.get(name) else None
