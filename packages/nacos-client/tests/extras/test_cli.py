"""The command, run as its entry point runs it."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nacos_client import NacosClient
from nacos_client.cli import main
from nacos_client.cli.command import build_parser, run
from nacos_client.testing import FakeNacosServer

Nacos = Callable[..., tuple[int, str, str]]


@pytest.fixture
def nacos(
    server: FakeNacosServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Nacos:
    """Runs the command; exit code, standard output and standard error."""
    monkeypatch.setenv("NACOS_SERVER_ADDR", server.address)
    monkeypatch.setenv("NACOS_USERNAME", "nacos")
    monkeypatch.setenv("NACOS_PASSWORD", "nacos")
    monkeypatch.setenv("COLUMNS", "200")

    def command(*arguments: str) -> tuple[int, str, str]:
        code = run(arguments)
        output = capfd.readouterr()
        return code, output.out, output.err

    return command


@pytest.fixture
def client(server: FakeNacosServer) -> Iterator[NacosClient]:
    with NacosClient(server.address, username="nacos", password="nacos") as client:
        yield client


def objects(out: str) -> list[Any]:
    return [json.loads(line) for line in out.splitlines()]


def test_set_from_a_file_and_get(nacos: Nacos, tmp_path: Path) -> None:
    file = tmp_path / "app.yaml"
    file.write_text("greeting: 你好\n", encoding="utf-8")
    assert nacos("config", "set", "app.yaml", str(file))[:2] == (0, "published app.yaml\n")
    assert nacos("config", "get", "app.yaml")[:2] == (0, "greeting: 你好\n")
    (document,) = objects(nacos("--json", "config", "get", "app.yaml")[1])
    assert (document["content"], document["content_type"]) == ("greeting: 你好\n", "yaml")


def test_set_from_standard_input_on_top_of_a_version(
    server: FakeNacosServer, client: NacosClient
) -> None:
    client.admin.publish("app.yaml", "a: 1")
    md5 = client.config.get("app.yaml").md5
    environment = os.environ | {
        "NACOS_SERVER_ADDR": server.address,
        "NACOS_USERNAME": "nacos",
        "NACOS_PASSWORD": "nacos",
    }
    command = [sys.executable, "-c", "import nacos_client.cli as c; raise SystemExit(c.main())"]
    command += ["config", "set", "app.yaml", "--if-md5", md5]
    first, second = (
        subprocess.run(command, input=b"a: 2", env=environment, capture_output=True, check=False)
        for _ in range(2)
    )
    assert (first.returncode, second.returncode) == (0, 1), first.stderr
    assert b"read the current version" in second.stderr
    assert client.config.get("app.yaml").content == "a: 2"


def test_a_file_that_is_not_utf_8_or_not_there_is_one_clear_line(
    nacos: Nacos, tmp_path: Path
) -> None:
    (tmp_path / "bad").write_bytes(b"\xff")
    for file in ("bad", "missing"):
        code, _, err = nacos("config", "set", "app.yaml", str(tmp_path / file))
        assert code == 1
        assert err.startswith("nacos: ")
        assert len(err.splitlines()) == 1


def test_a_missing_document_is_one_line_and_exit_code_1(nacos: Nacos) -> None:
    code, out, err = nacos("config", "get", "missing")
    assert (code, out) == (1, "")
    assert "resource not found" in err


def editor(tmp_path: Path, script: str) -> str:
    path = tmp_path / "editor.py"
    path.write_text(f"import sys, pathlib\npath = pathlib.Path(sys.argv[1])\n{script}\n")
    return f"{sys.executable} {path}"


def test_edit_publishes_what_the_editor_left(
    nacos: Nacos, client: NacosClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    client.admin.publish("app.json", '{"a": 1}')
    script = "path.write_text(path.read_text().replace('1', '2'))"
    monkeypatch.setenv("EDITOR", editor(tmp_path, script))
    code, out, _ = nacos("config", "edit", "app.json")
    assert code == 0
    assert '-{"a": 1}' in out
    assert '+{"a": 2}' in out
    assert client.config.get("app.json").content_type == "json"
    monkeypatch.setenv("EDITOR", editor(tmp_path, ""))
    assert nacos("config", "edit", "app.json")[1] == "nothing changed\n"
    monkeypatch.setenv("EDITOR", editor(tmp_path, "path.write_text('new: 1')"))
    assert nacos("config", "edit", "new.yaml")[0] == 0
    assert client.config.get("new.yaml").content == "new: 1"


def test_edit_loses_nothing_when_someone_else_was_faster_or_the_editor_failed(
    nacos: Nacos,
    server: FakeNacosServer,
    client: NacosClient,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    client.admin.publish("app.yaml", "a: 1")
    script = (
        "from nacos_client import NacosClient\n"
        f"with NacosClient('{server.address}', username='nacos', password='nacos') as nacos:\n"
        "    nacos.admin.publish('app.yaml', 'a: theirs')\n"
        "path.write_text('a: mine')"
    )
    monkeypatch.setenv("EDITOR", editor(tmp_path, script))
    code, _, err = nacos("config", "edit", "app.yaml")
    assert code == 1
    assert Path(err.split()[-1]).read_text() == "a: mine"
    assert client.config.get("app.yaml").content == "a: theirs"
    monkeypatch.setenv("EDITOR", editor(tmp_path, "sys.exit(3)"))
    code, out, _ = nacos("config", "edit", "app.yaml")
    assert code == 1
    assert "nothing was published" in out


def test_diff_against_a_file_a_version_and_a_namespace(
    nacos: Nacos, client: NacosClient, tmp_path: Path
) -> None:
    client.admin.publish("app.yaml", "a: 1")
    client.admin.publish("app.yaml", "a: 2")
    client.admin.publish("app.yaml", "a: 3", namespace="blue")
    file = tmp_path / "app.yaml"
    file.write_text("a: 2")
    assert nacos("config", "diff", "app.yaml", str(file))[:2] == (0, "")
    version = next(client.admin.history("app.yaml")).version_id
    code, out, _ = nacos("config", "diff", "app.yaml", "--version", version)
    assert code == 1
    assert "-a: 1" in out
    assert "+a: 2" in out
    told = nacos("--json", "config", "diff", "app.yaml", "--with-namespace", "blue")[1]
    assert objects(told)[0]["changed"] is True
    assert nacos("config", "diff", "app.yaml")[0] == 1


def test_history_and_rollback(nacos: Nacos, client: NacosClient) -> None:
    for content in ("a: 1", "a: 2"):
        client.admin.publish("app.yaml", content)
    versions = objects(nacos("--json", "config", "history", "app.yaml")[1])
    assert [each["operation"] for each in versions] == ["U", "I"]
    assert "version id" in nacos("config", "history", "app.yaml")[1]
    assert nacos("config", "rollback", "app.yaml", versions[0]["version_id"])[0] == 0
    assert client.config.get("app.yaml").content == "a: 1"


def test_watch_prints_the_document_then_each_diff(nacos: Nacos, client: NacosClient) -> None:
    client.admin.publish("app.yaml", "a: 1")
    publish = threading.Timer(0.5, client.admin.publish, ("app.yaml", "a: 2"))
    publish.start()
    out = nacos("config", "watch", "app.yaml", "--count", "1", "--interval", "0.05")[1]
    assert out.startswith("a: 1\nchanged\n")
    assert "+a: 2" in out
    deletion = threading.Timer(0.5, client.admin.delete, ("app.yaml",))
    deletion.start()
    told = objects(
        nacos("--json", "config", "watch", "app.yaml", "--count", "1", "--interval", "0.05")[1]
    )
    assert [each.get("content") for each in told] == ["a: 2", None]
    missing = nacos("config", "watch", "none.yaml", "--count", "0", "--interval", "0.05")[1]
    assert missing == "(there is no such document)\n"


def test_list_export_and_import(nacos: Nacos, client: NacosClient, tmp_path: Path) -> None:
    client.admin.publish("app.yaml", "a: 1", group="G")
    assert "app.yaml" in nacos("config", "ls")[1]
    file = str(tmp_path / "all.zip")
    assert nacos("config", "export", file, "app*")[0] == 0
    assert nacos("config", "export", file, "nothing*")[0] == 1
    code, out, _ = nacos("--json", "-n", "blue", "config", "import", file)
    assert code == 0
    assert objects(out)[0]["succeeded"] == 1
    assert nacos("-n", "blue", "config", "import", file)[0] == 1
    assert client.config.get("app.yaml", group="G", namespace="blue").content == "a: 1"


def test_the_words_of_other_tools_do_the_same(nacos: Nacos, tmp_path: Path) -> None:
    file = tmp_path / "app.yaml"
    file.write_text("a: 1", encoding="utf-8")
    assert nacos("config", "publish", "app.yaml", str(file))[0] == 0
    assert nacos("config", "list")[1] == nacos("config", "ls")[1] != ""
    assert nacos("service", "list")[:2] == nacos("service", "ls")[:2]
    assert nacos("namespace", "list")[:2] == nacos("namespace", "ls")[:2]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--json", "-g", "G", "config", "get", "app.yaml"),
        ("config", "--json", "-g", "G", "get", "app.yaml"),
        ("config", "get", "app.yaml", "--json", "-g", "G"),
        ("--json", "config", "-g", "G", "get", "app.yaml"),
        ("-g", "other", "config", "get", "app.yaml", "--group", "G", "--json"),
    ],
)
def test_general_options_may_stand_anywhere(
    nacos: Nacos, client: NacosClient, arguments: tuple[str, ...]
) -> None:
    client.admin.publish("app.yaml", "a: 1", group="G")
    code, out, _ = nacos(*arguments)
    assert code == 0
    (document,) = objects(out)
    assert document["group"] == "G"


def test_the_instances_of_a_service_without_any_are_exit_code_1(
    nacos: Nacos, client: NacosClient
) -> None:
    client.naming.register("known", "10.0.0.1", 80)
    client.naming.deregister("known", "10.0.0.1", 80)
    for arguments in (("service", "show", "known"), ("--json", "service", "show", "unknown")):
        code, out, err = nacos(*arguments)
        assert (code, out) == (1, "")
        assert len(err.splitlines()) == 1


def test_services_and_instances(nacos: Nacos, client: NacosClient) -> None:
    arguments = ("instance", "register", "orders", "10.0.0.7:8000", "--metadata", "version=1")
    code, out, _ = nacos(*arguments, "--persistent", "--weight", "2")
    assert (code, out) == (0, "registered 10.0.0.7:8000 as orders\n")
    (service,) = objects(nacos("--json", "service", "ls")[1])
    assert (service["name"], service["ip_count"]) == ("orders", 1)
    (instance,) = objects(nacos("--json", "service", "show", "orders")[1])
    assert (instance["weight"], instance["metadata"]) == (2, {"version": "1"})
    assert "version=1" in nacos("service", "show", "orders")[1]
    assert nacos("instance", "deregister", "orders", "10.0.0.7:8000", "--persistent")[0] == 0
    assert list(client.naming.instances("orders")) == []


def test_an_ephemeral_instance_lives_as_long_as_the_command(
    nacos: Nacos, client: NacosClient
) -> None:
    lists: list[int] = []
    look = threading.Timer(0.3, lambda: lists.append(len(client.naming.instances("orders"))))
    look.start()
    try:
        code, out, _ = nacos("instance", "register", "orders", "[::1]:80", "--seconds", "0.8")
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    look.join()
    assert code == 0
    assert "keeping it alive until interrupted" in out
    assert lists == [1]
    assert list(client.naming.instances("orders")) == []


def test_a_watched_service_prints_who_comes_changes_and_goes(
    nacos: Nacos, client: NacosClient
) -> None:
    def happen() -> None:
        client.naming.register("orders", "10.0.0.1", 80, ephemeral=False)

    threading.Timer(0.5, happen).start()
    arguments = ("service", "watch", "orders", "--count", "1", "--interval", "0.05")
    out = nacos(*arguments)[1]
    assert out == "0 instances\n+ 10.0.0.1:80 weight=1 DEFAULT\n1 instances\n"
    told = objects(nacos("--json", "service", "watch", "orders", "--count", "0")[1])
    assert told[0]["instances"][0]["ip"] == "10.0.0.1"


def test_namespaces_and_status(nacos: Nacos, server: FakeNacosServer) -> None:
    assert "public" in nacos("namespace", "ls")[1]
    code, out, _ = nacos("status")
    assert code == 0
    assert "version: 3.1.0-FAKE" in out
    server.stop()
    assert nacos("--json", "status")[0] == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("instance", "register", "orders", "nonsense"),
        ("instance", "register", "orders", "1.1.1.1:80", "--metadata", "novalue"),
        ("--server", "http://", "status"),
    ],
    ids=["address", "metadata", "server"],
)
def test_bad_input_is_one_line_that_names_it(nacos: Nacos, arguments: tuple[str, ...]) -> None:
    code, _, err = nacos(*arguments)
    assert code == 1
    assert err.startswith("nacos: ")
    assert "must be" in err


def test_ctrl_c_is_exit_code_130(server: FakeNacosServer) -> None:
    """In a process of its own: an interrupt of this one might hit anything."""
    environment = {
        **os.environ,
        "NACOS_SERVER_ADDR": server.address,
        "NACOS_USERNAME": "nacos",
        "NACOS_PASSWORD": "nacos",
    }
    # Where the tests run in the background, interrupts are ignored, and children inherit that.
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from nacos_client.cli.command import run; sys.exit(run(['service', 'watch', 'orders']))"
    )
    with subprocess.Popen([sys.executable, "-c", code], env=environment) as command:
        deadline = time.monotonic() + 50
        while not any("instance/list" in request for request in map(str, server.requests)):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        command.send_signal(signal.SIGINT)
        assert command.wait(50) == 130


def test_there_is_no_option_for_the_password() -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args(["--password", "x", "status"])
    assert "NACOS_PASSWORD" in build_parser().format_help()


def test_the_entry_point_takes_its_arguments_from_the_command_line(
    nacos: Nacos, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert nacos("status")[0] == 0
    monkeypatch.setattr(sys, "argv", ["nacos", "status"])
    assert main() == 0


def test_without_rich_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)
    assert main() == 1
    assert "pip install 'nacos-client[cli]'" in capsys.readouterr().err
