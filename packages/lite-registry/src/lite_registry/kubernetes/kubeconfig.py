"""Access to the API server from a kubeconfig file.

Source: https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import cast

from lite_registry._documents import parse_document
from lite_registry.errors import DocumentError, SettingsError

from .access import ApiServer
from .credentials import Credentials, ExecPlugin, Pem, StaticCredentials, TokenFileCredentials

__all__ = ("read_kubeconfig",)

_ADVICE = "correct it, `kubectl config view` shows what is in it"
_MAX_BYTES = 4 * 1024 * 1024  # certificates are in it

_EXEC_API_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")


def read_kubeconfig(path: Path, *, context: str = "") -> ApiServer:
    """Access as a kubeconfig file describes it.

    Args:
        context: the name of the context to use; its current one by default.

    Raises:
        SettingsError: with the file, the field and what is wrong with it.
    """
    name = f"kubeconfig {str(path)!r}"
    try:
        return _build_access(_parse(path, name), path.parent, context)
    except DocumentError:
        raise
    except KeyError as error:
        raise SettingsError(f"{name}: there is no field {error}; {_ADVICE}") from None
    except (ValueError, OSError) as error:
        if isinstance(error, SettingsError):
            raise SettingsError(f"{name}: {error}") from error
        raise SettingsError(f"{name}: {type(error).__name__} {error}; {_ADVICE}") from error


def _parse(path: Path, name: str) -> dict[str, object]:
    content = path.read_bytes()
    is_json = content.lstrip().startswith(b"{")
    try:
        document = parse_document(
            content, document_format="json" if is_json else "yaml", name=name, max_bytes=_MAX_BYTES
        )
    except ImportError as error:
        raise SettingsError('it is YAML: pip install "lite-registry[yaml]"') from error
    return _check_object(document, "it")


def _check_object(value: object, what: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise SettingsError(f"{what} must be an object; {_ADVICE}")
    return value


def _check_objects(value: object, what: str) -> list[dict[str, object]]:
    if not isinstance(value or [], list):
        raise SettingsError(f"{what} must be a list; {_ADVICE}")
    return [_check_object(each, f"each of {what}") for each in cast("list[object]", value or [])]


def _read_flag(section: dict[str, object], name: str) -> bool:
    """A flag; a text such as `no`, which would count as true, is refused."""
    value = section.get(name) or False
    if not isinstance(value, bool):
        raise SettingsError(f"{name} must be true or false; {_ADVICE}")
    return value


def _read_text(section: dict[str, object], name: str) -> str:
    value = section.get(name) or ""
    if not isinstance(value, str):
        raise SettingsError(f"{name} must be a text, in quotes if it looks like a number")
    return value


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
        verify=not _read_flag(cluster, "insecure-skip-tls-verify"),
        tls_server_name=_read_text(cluster, "tls-server-name") or None,
    )


def _find_entry(config: dict[str, object], section: str, name: str, kind: str) -> dict[str, object]:
    for entry in _check_objects(config.get(section), section):
        if entry.get("name") == name:
            return _check_object(entry.get(kind) or {}, f"the {kind} {name!r}")
    raise SettingsError(f"there is no {kind} {name!r} in {section}; correct the name")


def _build_credentials(
    user: dict[str, object], cluster: dict[str, object], folder: Path
) -> Credentials:
    if user.get("auth-provider"):
        raise SettingsError("auth-provider was removed from Kubernetes; use an exec plugin")
    if plugin := user.get("exec"):
        return _build_exec_plugin(_check_object(plugin, "exec"), cluster, folder)
    if user.get("tokenFile"):
        return TokenFileCredentials(folder / str(user["tokenFile"]))
    certificate = _build_pem(user, "client-certificate", folder)
    key = _build_pem(user, "client-key", folder)
    pair = (certificate, key) if certificate and key else None
    return StaticCredentials(_read_text(user, "token"), pair)


def _build_exec_plugin(
    plugin: dict[str, object], cluster: dict[str, object], folder: Path
) -> ExecPlugin:
    command = str(plugin["command"])
    if "/" in command and not command.startswith("/"):
        command = str(folder / command)
    api_version = str(plugin.get("apiVersion") or "")
    if api_version not in _EXEC_API_VERSIONS:
        raise SettingsError(f"exec apiVersion must be v1 or v1beta1, not {api_version!r}")
    variables = _check_objects(plugin.get("env"), "env of exec")
    arguments = plugin.get("args") or []
    if not isinstance(arguments, list):
        raise SettingsError(f"args of exec must be a list; {_ADVICE}")
    cluster_info = {
        key: value
        for key, value in cluster.items()
        if key in {"server", "certificate-authority-data"}
    }
    return ExecPlugin(
        command=[command, *map(str, arguments)],
        environment={str(each["name"]): str(each["value"]) for each in variables},
        api_version=api_version,
        cluster=cluster_info if _read_flag(plugin, "provideClusterInfo") else None,
    )


def _build_pem(section: dict[str, object], name: str, folder: Path) -> Pem | None:
    if data := section.get(f"{name}-data"):
        return Pem(content=base64.b64decode(str(data), validate=True))
    return Pem(folder / str(section[name])) if section.get(name) else None
