"""Access to the API server from a kubeconfig file.

Source: https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/
"""

from __future__ import annotations

import base64
import binascii
import json
from pathlib import Path
from typing import cast

from lite_registry.errors import SettingsError

from .access import ApiServer
from .credentials import Credentials, ExecPlugin, Pem, StaticCredentials, TokenFileCredentials

__all__ = ("read_kubeconfig",)

_EXEC_API_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")


def read_kubeconfig(path: Path, *, context: str = "") -> ApiServer:
    """Access as a kubeconfig file describes it.

    Args:
        context: the name of the context to use; its current one by default.

    Raises:
        SettingsError: with the file, the field and what is wrong with it.
    """
    try:
        return _build_access(_parse(path), path.parent, context)
    except (KeyError, TypeError, ValueError, OSError, RecursionError, binascii.Error) as error:
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
            raise SettingsError(f"it is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise SettingsError("it is not an object; write one with clusters, users and contexts")
    return document


def _build_access(config: dict[str, object], folder: Path, context_name: str) -> ApiServer:
    name = context_name or str(config.get("current-context") or "")
    if not name:
        raise SettingsError("there is no current-context; set one or give --context")
    context = _find_entry(config, "contexts", name, "context")
    cluster = _find_entry(config, "clusters", str(context["cluster"]), "cluster")
    user = _find_entry(config, "users", str(context["user"]), "user") if context.get("user") else {}
    if cluster.get("proxy-url"):
        raise SettingsError("proxy-url is not supported; use a context without it")
    server = str(cluster["server"])
    if not server.startswith(("http://", "https://")):
        raise SettingsError(f"server must be an http or https address, not {server!r}")
    return ApiServer(
        server,
        namespace=str(context.get("namespace") or "default"),
        credentials=_build_credentials(user, cluster, folder),
        ca=_build_pem(cluster, "certificate-authority", folder),
        verify=not cluster.get("insecure-skip-tls-verify"),
        tls_server_name=cast("str | None", cluster.get("tls-server-name")),
    )


def _find_entry(config: dict[str, object], section: str, name: str, kind: str) -> dict[str, object]:
    entries = config.get(section) or []
    for entry in cast("list[dict[str, object]]", entries):
        if entry.get("name") == name:
            return cast("dict[str, object]", entry.get(kind) or {})
    raise SettingsError(f"there is no {kind} {name!r} in {section}; correct the name")


def _build_credentials(
    user: dict[str, object], cluster: dict[str, object], folder: Path
) -> Credentials:
    if user.get("auth-provider"):
        raise SettingsError("auth-provider was removed from Kubernetes; use an exec plugin")
    if plugin := user.get("exec"):
        return _build_exec_plugin(cast("dict[str, object]", plugin), cluster, folder)
    if user.get("tokenFile"):
        return TokenFileCredentials(folder / str(user["tokenFile"]))
    certificate = _build_pem(user, "client-certificate", folder)
    key = _build_pem(user, "client-key", folder)
    pair = (certificate, key) if certificate and key else None
    return StaticCredentials(str(user.get("token") or ""), pair)


def _build_exec_plugin(
    plugin: dict[str, object], cluster: dict[str, object], folder: Path
) -> ExecPlugin:
    command = str(plugin["command"])
    if "/" in command and not command.startswith("/"):
        command = str(folder / command)
    api_version = str(plugin.get("apiVersion") or "")
    if api_version not in _EXEC_API_VERSIONS:
        raise SettingsError(f"exec apiVersion must be v1 or v1beta1, not {api_version!r}")
    variables = cast("list[dict[str, str]]", plugin.get("env") or [])
    cluster_info = {
        key: value
        for key, value in cluster.items()
        if key in {"server", "certificate-authority-data"}
    }
    return ExecPlugin(
        command=[command, *map(str, cast("list[object]", plugin.get("args") or []))],
        environment={variable["name"]: variable["value"] for variable in variables},
        api_version=api_version,
        cluster=cluster_info if plugin.get("provideClusterInfo") else None,
    )


def _build_pem(section: dict[str, object], name: str, folder: Path) -> Pem | None:
    if data := section.get(f"{name}-data"):
        return Pem(content=base64.b64decode(str(data), validate=True))
    return Pem(folder / str(section[name])) if section.get(name) else None
