import contextlib
import http.client
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lite_registry import command
from lite_registry.command import main
from lite_registry.file_limit import raise_file_limit


@contextlib.contextmanager
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_it_serves_until_a_signal_stops_it(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("# rotated monthly\na-token-long-enough\n")
    command = [sys.executable, "-m", "lite_registry", "serve", "--port", "0"]
    with subprocess.Popen(
        [*command, "--token-file", str(tokens)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        message = process.stdout.readline()
        url = re.search(r"http://(127\.0\.0\.1:\d+)", message)
        assert url is not None, message
        connection = http.client.HTTPConnection(url[1], timeout=5)
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200
        connection.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0


def test_an_interrupt_ends_it_like_a_request_to_stop(capsys: pytest.CaptureFixture[str]) -> None:
    with taken_port() as port:
        pass

    def interrupt() -> None:
        for _ in range(500):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.1):
                break
            threading.Event().wait(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    assert main(["serve", "--port", str(port)]) == 0
    interrupter.join()
    assert f"listens on http://127.0.0.1:{port}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "65536"], "--port must be a number from 0 to 65535, not '65536'"),
        (["--host", "0.0.0.0"], "give a --token-file, or say --insecure if that is intended"),
        (["--source", "file"], "--source file needs --file PATH"),
        (["--file", "{tmp}/none.json"], "none.json' cannot be read"),
        (["--file", "{tmp}/broken.json"], "broken.json', line 1: it must be JSON"),
        (["--file", "{tmp}/deep.json"], "deep.json', line 1: it must be nested at most"),
        (["--source", "file", "--file", "{tmp}/list.json"], "an object `services`; write one"),
        (["--token-file", "{tmp}/none"], "none' cannot be read"),
        (["--token-file", "{tmp}/empty"], "empty' holds no token; write one per line"),
        (["--token-file", "{tmp}/short"], "a token is at least 16 printable ASCII characters"),
        (["--host", "192.0.2.1", "--insecure"], "cannot listen on 192.0.2.1:8080"),
    ],
)
def test_a_wrong_setting_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, content in (
        ("broken.json", "{"),
        ("deep.json", "[" * 100_000),
        ("list.json", "[]"),
        ("empty", "\n"),
        ("short", "x"),
    ):
        (tmp_path / name).write_text(content)
    assert main(["serve", *(word.format(tmp=tmp_path) for word in arguments)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("lite-registry: ")
    assert message in line


def test_a_taken_port_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with taken_port() as port:
        assert main(["serve", "--port", str(port)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"lite-registry: 127.0.0.1:{port} is taken by another program; "
        "stop it or choose another --port"
    )


def test_without_a_command_it_serves() -> None:
    environment = {**os.environ, "LITE_REGISTRY_PORT": "0", "LITE_REGISTRY_LINGER": "0"}
    command = [sys.executable, "-m", "lite_registry"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert "listens on" in process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0


@pytest.mark.parametrize(
    ("before", "requested", "allowed", "after"),
    [
        ((1024, 4096), 500, 500, (1024, 4096)),
        ((1024, 4096), 2000, 2000, (2128, 4096)),
        ((1024, 4096), 9000, 3968, (4096, 4096)),
        ((1024, 1024), 9000, 896, (1024, 1024)),
        ((1024, -1), 9000, 9000, (9128, -1)),
        ((-1, -1), 9000, 9000, (-1, -1)),
    ],
)
def test_the_limit_of_open_files_is_raised_as_far_as_it_goes(
    monkeypatch: pytest.MonkeyPatch,
    before: tuple[int, int],
    requested: int,
    allowed: int,
    after: tuple[int, int],
) -> None:
    limits = [before]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, limit: limits.append(limit))
    assert raise_file_limit(requested) == allowed
    assert limits[-1] == after


def test_fewer_connections_than_asked_for_are_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    settings = command.ServeSettings(
        command.build_parser().parse_args(["serve", "--max-connections-per-client", "9"])
    )
    limits = settings.create_limits()
    assert (limits.connections, limits.largest_share) == (1024 - 128 - 64, 9)
    assert "may open 896 connections, fewer than --max-connections 16384" in caplog.text
