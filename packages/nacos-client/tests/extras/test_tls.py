"""TLS: the right authority, the wrong one, and client certificates."""

import asyncio
import datetime as dt
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from nacos_client import AsyncNacosClient, NacosClient, ServerUnavailableError
from nacos_client.testing import FakeNacosServer


def certificate(folder: Path, name: str) -> tuple[str, str]:
    """A self-signed certificate for 127.0.0.1 and its key, as files."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / f"{name}.pem", folder / f"{name}.key"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return str(cert_file), str(key_file)


@dataclass
class Front:
    """A TLS listener before the fake server."""

    address: str
    cert_file: str


def serve(server: FakeNacosServer, context: ssl.SSLContext) -> Iterator[str]:
    """Forward every TLS connection to the fake, from a thread of its own."""
    loop = asyncio.new_event_loop()
    started: list[asyncio.Server] = []
    ready, host, port = threading.Event(), *server.address.split(":")

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except (ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection(host, int(port))
        await asyncio.gather(pipe(reader, to_writer), pipe(to_reader, writer))

    async def begin() -> None:
        started.append(await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context))
        ready.set()

    def run() -> None:
        loop.set_exception_handler(lambda *_: None)
        loop.run_until_complete(begin())
        loop.run_forever()
        started[0].close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait()
    yield f"https://127.0.0.1:{started[0].sockets[0].getsockname()[1]}"
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


@pytest.fixture
def front(server: FakeNacosServer, tmp_path: Path) -> Iterator[Front]:
    cert_file, key_file = certificate(tmp_path, "server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert_file, key_file)
    for address in serve(server, context):
        yield Front(address, cert_file)


def connect(front: Front, **options: Any) -> NacosClient:
    return NacosClient(
        front.address, username="nacos", password="nacos", snapshot_dir="", **options
    )


def test_the_right_authority_is_trusted(front: Front) -> None:
    with connect(front, ca_file=front.cert_file) as nacos:
        assert list(nacos.naming.instances("orders")) == []


async def test_the_async_client_speaks_tls_too(front: Front) -> None:
    async with AsyncNacosClient(
        front.address, username="nacos", password="nacos", ca_file=front.cert_file
    ) as nacos:
        assert list(await nacos.naming.instances("orders")) == []


def test_an_unknown_authority_is_refused_by_name(front: Front) -> None:
    with (
        connect(front, login_attempts=1) as nacos,
        pytest.raises(ServerUnavailableError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        nacos.naming.instances("orders")


def test_verification_can_be_switched_off(front: Front) -> None:
    with connect(front, tls_verify=False) as nacos:
        assert list(nacos.naming.instances("orders")) == []


def test_a_server_that_wants_a_client_certificate_gets_it(
    server: FakeNacosServer, tmp_path: Path
) -> None:
    cert_file, key_file = certificate(tmp_path, "server")
    client_cert, client_key = certificate(tmp_path, "client")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert_file, key_file)
    context.load_verify_locations(client_cert)
    context.verify_mode = ssl.CERT_REQUIRED
    for address in serve(server, context):
        front = Front(address, cert_file)
        with connect(front, ca_file=cert_file, cert_file=client_cert, key_file=client_key) as nacos:
            assert list(nacos.naming.instances("orders")) == []
        with connect(front, ca_file=cert_file) as nacos, pytest.raises(ServerUnavailableError):
            nacos.naming.instances("orders")
