"""Brokers of the tests' own: a RabbitMQ node from Debian, a Kafka broker from Maven's repository."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from required_servers import skip_without


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in probes]


@pytest.fixture(scope="session")
def rabbitmq_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a RabbitMQ node that lives as long as the tests."""
    folder: Path = tmp_path_factory.mktemp("rabbitmq")
    with rabbitmq_node(folder, free_ports(3)) as address:
        yield address


@pytest.fixture(scope="session")
def kafka_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a Kafka broker that lives as long as the tests."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", tempfile.gettempdir())) / "lane-router-tests"
    folder: Path = tmp_path_factory.mktemp("kafka")
    with kafka_node(folder, cache, free_ports(2)) as address:
        yield address


def server_folder() -> Path:
    """Where the programs of the package lie; it is installed where that is possible."""
    found = _find_rabbitmq()
    if found is None and shutil.which("apt-get") and os.geteuid() == 0:
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (
            ["apt-get", "update", "-qq"],
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "rabbitmq-server"],
        ):
            subprocess.run(command, env=quiet, check=False, capture_output=True)
        found = _find_rabbitmq()
    if found is None:
        skip_without(
            "rabbitmq", "rabbitmq-server is not installed: apt-get install rabbitmq-server"
        )
    return found


def _find_rabbitmq() -> Path | None:
    return next(iter(sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin"))), None)


@contextmanager
def rabbitmq_node(folder: Path, ports: list[int]) -> Iterator[str]:
    """Run a node; its address. `ports` are three free ones: AMQP, distribution, epmd."""
    sbin = server_folder()
    amqp, distribution, epmd = ports
    name = f"lanes{amqp}@localhost"
    environment = {
        **os.environ,
        "HOME": str(folder),
        "RABBITMQ_NODENAME": name,
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(amqp),
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_CONF_ENV_FILE": str(folder / "rabbitmq-env.conf"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(epmd),
    }
    (folder / "enabled_plugins").write_text("[].")
    (folder / "rabbitmq.conf").write_text("vm_memory_high_watermark.absolute = 256MB\n")
    (folder / "rabbitmq-env.conf").write_text("")
    with (folder / "output").open("w") as output:
        node = subprocess.Popen(
            [str(sbin / "rabbitmq-server")],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_for_rabbitmq(sbin, node, name, environment, folder / "output")
        yield f"amqp://guest:guest@127.0.0.1:{amqp}/"
    finally:
        os.killpg(node.pid, signal.SIGTERM)
        try:
            node.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(node.pid, signal.SIGKILL)
            node.wait()
        subprocess.run(["epmd", "-port", str(epmd), "-kill"], check=False, capture_output=True)


def _wait_for_rabbitmq(
    sbin: Path,
    node: subprocess.Popen[bytes],
    name: str,
    environment: dict[str, str],
    output: Path,
) -> None:
    deadline = time.monotonic() + 120
    command = [str(sbin / "rabbitmqctl"), "-n", name, "await_startup", "--timeout", "60"]
    while subprocess.run(command, env=environment, check=False, capture_output=True).returncode:
        assert node.poll() is None, output.read_text()[-3000:]
        assert time.monotonic() < deadline, output.read_text()[-3000:]
        time.sleep(0.2)


KAFKA_VERSION = "3.9.1"

POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>lanes</groupId><artifactId>broker</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId>
      <version>{KAFKA_VERSION}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId>
      <version>1.7.36</version></dependency>
  </dependencies>
</project>
"""

PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{broker}
controller.listener.names=CONTROLLER
log.dirs={folder}/data
num.partitions=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
"""


def class_path(cache: Path) -> str:
    """Kafka's jars, fetched once."""
    jars = cache / f"kafka-{KAFKA_VERSION}"
    if not jars.exists():
        if not shutil.which("mvn") or not shutil.which("java"):
            skip_without("kafka", "mvn and java are not installed: no Kafka broker to test against")
        build = cache / f"build-{uuid4().hex}"
        build.mkdir(parents=True)
        (build / "pom.xml").write_text(POM)
        command = ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=lib"]
        done = subprocess.run(command, cwd=build, check=False, capture_output=True, text=True)
        if done.returncode:
            skip_without("kafka", f"Kafka's artifacts cannot be fetched: {done.stdout[-500:]}")
        (build / "lib").rename(jars)
    return f"{jars}/*"


@contextmanager
def kafka_node(folder: Path, cache: Path, ports: list[int]) -> Iterator[str]:
    """Run a broker; its address. `ports` are two free ones: broker, controller."""
    jars = class_path(cache)
    broker, controller = ports
    (folder / "data").mkdir()
    properties = folder / "server.properties"
    properties.write_text(PROPERTIES.format(broker=broker, controller=controller, folder=folder))
    java = ["java", "-Xmx256m", "-Xms256m", "-XX:TieredStopAtLevel=1", "-cp", jars]
    storage = ["kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qk"]
    subprocess.run(
        [*java, *storage, "-c", str(properties)], check=True, capture_output=True, timeout=120
    )
    with (folder / "output").open("w") as output:
        node = subprocess.Popen(
            [*java, "kafka.Kafka", str(properties)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_for_kafka(node, broker, folder / "output")
        yield f"127.0.0.1:{broker}"
    finally:
        os.killpg(node.pid, signal.SIGKILL)
        node.wait()


def _wait_for_kafka(node: subprocess.Popen[bytes], port: int, output: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        assert node.poll() is None, output.read_text()[-3000:]
        assert time.monotonic() < deadline, output.read_text()[-3000:]
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
