"""What is public, and that importing it stays cheap and quiet."""

import subprocess
import sys

import pytest

import nacos_client
import nacos_client.admin_models
import nacos_client.ciphers
import nacos_client.credentials
import nacos_client.errors
import nacos_client.models
import nacos_client.testing
from nacos_client import MissingDependencyError, NacosClient
from nacos_client.ciphers import AesGcmCipher, NacosAesCipher
from nacos_client.testing import FakeNacosServer


def test_every_public_name_is_there_and_listed_in_order() -> None:
    for module in (
        nacos_client,
        nacos_client.admin_models,
        nacos_client.ciphers,
        nacos_client.credentials,
        nacos_client.errors,
        nacos_client.models,
        nacos_client.testing,
    ):
        assert list(module.__all__) == sorted(module.__all__)
        for name in module.__all__:
            assert hasattr(module, name), f"{module.__name__}.{name}"


def test_every_error_is_a_nacos_error() -> None:
    for name in nacos_client.errors.__all__:
        assert issubclass(getattr(nacos_client, name), nacos_client.NacosError)


def test_importing_configures_no_logging_and_loads_no_optional_module() -> None:
    code = (
        "import sys, logging, nacos_client, nacos_client.testing\n"
        "assert not logging.getLogger('nacos_client').handlers\n"
        "assert not logging.getLogger().handlers\n"
        "print([m for m in ('pytest', 'cryptography', 'opentelemetry') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("cipher", [AesGcmCipher, NacosAesCipher])
def test_without_cryptography_a_cipher_says_what_to_install(
    cipher: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'nacos-client\[crypto\]'"):
        cipher()


def test_without_opentelemetry_calls_are_made_all_the_same(
    monkeypatch: pytest.MonkeyPatch, server: FakeNacosServer
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with NacosClient(server.address, username="nacos", password="nacos") as nacos:
        assert list(nacos.naming.instances("orders")) == []
