"""Access to the API server: its address, TLS, and the credentials of the moment."""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Mapping
from pathlib import Path

from lite_registry.errors import SettingsError
from lite_registry.http_client import HttpClient, HttpClientError

from .credentials import Credentials, Pem, TokenFileCredentials

__all__ = ("ApiServer", "read_service_account")

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class ApiServer:
    """Creates clients with the credentials and certificates of the moment.

    Args:
        url: the API server's address.
        namespace: the namespace of this process.
        ca: the authority of its certificate; None = those of the system.
        verify: False = `insecure-skip-tls-verify`.
        tls_server_name: the name in its certificate, when it is not the host.
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
        self.ca = ca
        self.verify = verify
        self.tls_server_name = tls_server_name
        self._credentials = credentials
        self._context: ssl.SSLContext | None = None
        self._context_signature: object = None

    async def create_client(self) -> HttpClient:
        """A client for the next request.

        Raises:
            HttpClientError: credentials or certificates cannot be read now.
        """
        try:
            token = await self._credentials.get_token()
            context = self._get_ssl_context() if self.url.startswith("https:") else None
        except (OSError, ValueError) as error:
            raise HttpClientError(f"credentials for {self.url}: {error}") from error
        headers = {"accept": "application/json", "user-agent": "lite-registry"}
        if token:
            headers["authorization"] = f"Bearer {token}"
        return HttpClient(
            self.url, headers=headers, ssl_context=context, server_hostname=self.tls_server_name
        )

    def discard_credentials(self) -> None:
        """Read the credentials again for the next request: the server responded 401."""
        self._credentials.discard()

    def _get_ssl_context(self) -> ssl.SSLContext:
        certificate = self._credentials.get_certificate()
        signature = [pem.read_signature() for pem in (self.ca, *(certificate or ())) if pem]
        if self._context is None or signature != self._context_signature:
            self._context = self._create_ssl_context(certificate)
            self._context_signature = signature
        return self._context

    def _create_ssl_context(self, certificate: tuple[Pem, Pem] | None) -> ssl.SSLContext:
        cadata = self.ca.read().decode("ascii") if self.ca else None
        context = ssl.create_default_context(cadata=cadata)
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if certificate is not None:
            _load_certificate(context, *certificate)
        return context


def _load_certificate(context: ssl.SSLContext, certificate: Pem, key: Pem) -> None:
    # ssl accepts paths only: the content goes through a file that only this user can read.
    handle, path = tempfile.mkstemp(prefix="lite-registry-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(certificate.read() + b"\n" + key.read())
        context.load_cert_chain(path)
    finally:
        Path(path).unlink()


def read_service_account(
    environment: Mapping[str, str], *, folder: Path = _SERVICE_ACCOUNT
) -> ApiServer:
    """Access with the service account of the pod this process runs in.

    Raises:
        SettingsError: this is not a pod, or it has no service account token.
    """
    host = environment.get("KUBERNETES_SERVICE_HOST", "")
    port = environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise SettingsError(
            "this is not a pod of a cluster (KUBERNETES_SERVICE_HOST is not set); give --kubeconfig"
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
        credentials=TokenFileCredentials(folder / "token"),
        ca=Pem(folder / "ca.crt"),
    )
