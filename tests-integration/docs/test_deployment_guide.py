"""What the deployment guide says of prefork servers, by the very lines it shows."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from nacos_client import NacosClient
from nacos_client.testing import FakeNacosServer

ROOT = Path(__file__).resolve().parent.parent.parent
SHOWN = re.compile(r"^```py\n(# gunicorn\.conf\.py;.*?)^```$", re.MULTILINE | re.DOTALL)
APPLICATION = """
from microservice_kit import current_module

def application(environ, start_response):
    start_response("200 OK", [("content-type", "text/plain")])
    return [current_module().instance.address.encode()]
"""


def listed(nacos: NacosClient, wanted: list[str], within_seconds: float = 20) -> bool:
    """Whether exactly these are registered, now or soon: a worker may answer before another is."""
    deadline = time.monotonic() + within_seconds
    while [one.address for one in nacos.naming.instances("shop")] != wanted:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def hooks(guide: Path) -> str:
    (shown,) = SHOWN.findall(guide.read_text(encoding="utf-8"))
    return str(shown)


@pytest.mark.parametrize("guide", ["docs/guides/deployment.md", "docs/zh/guides/deployment.md"])
def test_each_worker_opens_a_module_of_its_own_and_closes_it(
    guide: str,
    tmp_path: Path,
    free_port: int,
    start: Callable[..., subprocess.Popen[str]],
    answers: Callable[..., httpx.Response],
) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(hooks(ROOT / guide), encoding="utf-8")
    (tmp_path / "shop.py").write_text(APPLICATION, encoding="utf-8")
    with (
        FakeNacosServer(password="s3cret") as server,
        NacosClient(server.address, username="nacos", password="s3cret") as nacos,
    ):
        program = start(
            *("-m", "gunicorn", "--workers", "2", "--bind", f"127.0.0.1:{free_port}"),
            *("--chdir", str(tmp_path), "--config", str(tmp_path / "gunicorn.conf.py")),
            "shop:application",
            environment={
                "MICROSERVICE_SERVICE_NAME": "shop",
                "MICROSERVICE_HOST": "127.0.0.1",
                "MICROSERVICE_PORT": str(free_port),
                "MICROSERVICE_SERVICE_REGISTRY": "nacos",
                "MICROSERVICE_LEAVE_SECONDS": "0",
                "NACOS_SERVER_ADDR": server.address,
                "NACOS_USERNAME": "nacos",
                "NACOS_PASSWORD": "s3cret",
                "NACOS_SNAPSHOT_DIR": "",
            },
        )
        address = f"127.0.0.1:{free_port}"
        assert answers(program, f"http://{address}/").text == address
        assert listed(nacos, [address])
        program.terminate()
        assert program.wait(30) == 0
        assert listed(nacos, [], within_seconds=0)
