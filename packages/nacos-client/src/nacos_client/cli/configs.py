"""`nacos config …`: documents."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from nacos_client import NacosClient
from nacos_client.errors import ConfigNotFound, ConflictError, InvalidArgumentError
from nacos_client.models import Config

from .screen import Screen

__all__ = (
    "compare",
    "edit",
    "export",
    "get",
    "history",
    "import_",
    "publish",
    "rollback",
    "search",
    "watch",
)


def get(nacos: NacosClient, screen: Screen, arguments: argparse.Namespace) -> int:
    """Print a document."""
    config = nacos.config.get(arguments.data_id)
    if screen.as_json:
        screen.print_value(config)
    else:
        screen.print_content(config.content)
    return 0


def publish(nacos: NacosClient, screen: Screen, arguments: argparse.Namespace) -> int:
    """Publish a file, or standard input."""
    content = _read_text(arguments.file)
    nacos.admin.publish(
        arguments.data_id, content, type=arguments.type, cas_md5=arguments.if_md5 or None
    )
    screen.print_line(f"published {arguments.data_id}")
    return 0


def search(nacos: NacosClient, screen: Screen, arguments: argparse.Namespace) -> int:
    """List documents."""
    summaries = nacos.admin.search(arguments.pattern, group=arguments.group or "")
    screen.print_table(("data_id", "group", "content_type", "md5", "app"), summaries)
    return 0


def edit(nacos: NacosClient, screen: Screen, arguments: argparse.Namespace) -> int:
    """Open a document in $EDITOR, and publish it unless it was changed meanwhile."""
    try:
        before: Config | None = nacos.config.get(arguments.data_id)
    except ConfigNotFound:
        before = None
    suffix = Path(arguments.data_id).suffix or ".txt"
    descriptor, name = tempfile.mkstemp(prefix="nacos-", suffix=suffix)
    path = Path(name)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(before.content if before else "")
    editor = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
    if subprocess.run([*editor, name], check=False).returncode != 0:  # noqa: S603 - the user's own
        screen.print_line(f"the editor failed; nothing was published, your text is in {path}")
        return 1
    content = path.read_text(encoding="utf-8")
    if content == (before.content if before else ""):
        path.unlink()
        screen.print_line("nothing changed")
        return 0
    try:
        nacos.admin.publish(
            arguments.data_id,
            content,
            type=before.content_type if before else None,
            cas_md5=before.md5 if before else None,
        )
    except ConflictError:
        sys.stderr.write(f"{arguments.data_id} was changed meanwhile; your text is in {path}\n")
        return 1
    path.unlink()
    screen.print_diff(before.content if before else "", content, names=("before", "after"))
    screen.print_line(f"published {arguments.data_id}")
    return 0


def compare(nacos: NacosClient, screen: Screen, arguments: argparse.Namespace) -> int:
    """Compare a document with a file, an earlier version, or another namespace; 1 = differs."""
    present = nacos.config.get(arguments.data_id)
    if arguments.version:
        other = nacos.admin.version(arguments.data_id, arguments.version).content
        names = (f"version {arguments.version}", "present")
        return int(screen.print_diff(other, present.content, names=names))
    if arguments.with_namespace:
        other_config = nacos.config.get(arguments.data_id, namespace=arguments.with_namespace)
        names = (present.namespace, other_config.namespace)
        return int(screen.print_diff(present.content, other_config.content, names=names))
    if arguments.file is None:
        raise InvalidArgumentError("diff", "nothing", "given a file, --version or --with-namespace")
    names = ("server", arguments.file)
    return int(screen.print_diff(present.content, _read_text(arguments.file), names=names))


def history(nacos: NacosClient, screen: Screen, arguments: argparse.Namespace) -> int:
    """List the versions of a document, newest first."""
    columns = ("version_id", "operation", "last_modified", "source_user", "source_ip")
    screen.print_table(columns, nacos.admin.history(arguments.data_id))
    return 0


def rollback(nacos: NacosClient, screen: Screen, arguments: argparse.Namespace) -> int:
    """Publish the content of a version again."""
    nacos.admin.rollback(arguments.data_id, arguments.version)
    screen.print_line(
        f"{arguments.data_id} has the content that version {arguments.version} recorded"
    )
    return 0


def watch(nacos: NacosClient, screen: Screen, arguments: argparse.Namespace) -> int:
    """Print each change of a document, until interrupted."""
    before = ""
    with nacos.config.changes(arguments.data_id) as changes:
        for number, state in enumerate(changes):
            content = state.content if isinstance(state, Config) else ""
            if screen.as_json:
                screen.print_value(state)
            elif number:
                screen.print_line("changed" if isinstance(state, Config) else "deleted")
                screen.print_diff(before, content, names=("before", "after"))
            else:
                screen.print_content(content or "(there is no such document)")
            before = content
            if number == arguments.count:
                break
    return 0


def export(nacos: NacosClient, screen: Screen, arguments: argparse.Namespace) -> int:
    """Write documents into a zip file."""
    summaries = list(nacos.admin.search(arguments.pattern, group=arguments.group or ""))
    if not summaries:
        screen.print_line("nothing matches")
        return 1
    Path(arguments.file).write_bytes(nacos.admin.export_configs(summaries))
    screen.print_line(f"{len(summaries)} documents in {arguments.file}")
    return 0


def import_(nacos: NacosClient, screen: Screen, arguments: argparse.Namespace) -> int:
    """Publish the documents of a zip file."""
    archive = Path(arguments.file).read_bytes()
    result = nacos.admin.import_configs(archive, policy=arguments.policy.upper())
    screen.print_value(result)
    return 1 if result.failed else 0


def _read_text(file: str) -> str:
    """The text of a file, or of standard input for `-`.

    Raises:
        InvalidArgumentError: it is not UTF-8.
    """
    data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidArgumentError("file", file, "UTF-8 text") from error
