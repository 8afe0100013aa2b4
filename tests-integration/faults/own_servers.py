"""Reference servers of a test's own, to be disturbed: started by the command in REFERENCE_SERVERS."""

import os
import shlex
import subprocess
from pathlib import Path

from required_servers import servers_command

__all__ = ("OwnServers",)


class OwnServers:
    """One NAME of the reference servers, on ports and in a folder of its own."""

    def __init__(self, name: str, run_folder: Path, ports: list[str]) -> None:
        self._command = shlex.split(servers_command(name))
        self._name = name
        self._ports = ports
        self._environment = {
            key: value for key, value in os.environ.items() if not key.startswith("NACOS_")
        } | {"REFERENCE_SERVERS_RUN": str(run_folder), "REFERENCE_SERVERS_TIMEOUT": "240"}

    def _call(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._command, *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def up(self) -> None:
        self._call("up", self._name, *self._ports)

    def kill(self, role: str = "") -> None:
        self._call("kill", self._name + role)

    def pause(self) -> None:
        self._call("pause", self._name)

    def resume(self) -> None:
        self._call("resume", self._name)

    def restart(self, **properties: str) -> None:
        """Stop and start with Nacos properties; `__` in a name stands for a dot."""
        settings = [
            part
            for key, value in properties.items()
            for part in ("--set", f"{key.replace('__', '.')}={value}")
        ]
        self._call("restart", self._name, *settings)

    def down(self) -> None:
        self._call("down", self._name, "--purge")

    def environment(self) -> dict[str, str]:
        lines = self._call("env", self._name).splitlines()
        pairs = (shlex.split(line.removeprefix("export "))[0] for line in lines if "=" in line)
        return dict(pair.split("=", 1) for pair in pairs)
