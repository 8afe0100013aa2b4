"""Encrypted documents: from the publisher's clear text to the listener's, never in a file."""

import base64
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nacos_client import CipherError, NacosClient
from nacos_client.ciphers import AesGcmCipher, NacosAesCipher, keys_from_environment
from nacos_client.testing import FakeNacosServer

SECRET = "password: hunter2"
GCM = "cipher-aesgcm-app.yaml"


@pytest.fixture
def nacos(server: FakeNacosServer, tmp_path: Path) -> Iterator[NacosClient]:
    with NacosClient(
        server.address,
        username="nacos",
        password="nacos",
        snapshot_dir=str(tmp_path / "snapshots"),
        ciphers=[AesGcmCipher({"2026": os.urandom(32)}), NacosAesCipher()],
    ) as client:
        yield client


@pytest.mark.parametrize("data_id", [GCM, "cipher-aes-app.yaml"])
def test_what_is_published_is_encrypted_on_the_server_and_clear_for_the_reader(
    nacos: NacosClient, server: FakeNacosServer, data_id: str
) -> None:
    nacos.admin.publish(data_id, SECRET)
    with NacosClient(server.address, username="nacos", password="nacos") as plain:
        stored = plain.admin.get(data_id)
        assert "hunter2" not in stored.content
        assert stored.encrypted_data_key
        with pytest.raises(CipherError, match="give a cipher for it"):
            plain.config.get(data_id)
    config = nacos.config.get(data_id)
    assert config.content == SECRET
    assert config.md5 == stored.md5


def test_the_snapshot_holds_cipher_text_only_and_is_decrypted_when_used(
    nacos: NacosClient, server: FakeNacosServer, tmp_path: Path
) -> None:
    nacos.admin.publish(GCM, SECRET)
    nacos.config.get(GCM)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert not any(b"hunter2" in path.read_bytes() for path in files)
    server.stop()
    copy = nacos.config.get(GCM)
    assert (copy.content, copy.source) == (SECRET, "snapshot")


def test_a_rollback_keeps_the_old_key_with_the_old_content(nacos: NacosClient) -> None:
    nacos.admin.publish(GCM, "a: 1")
    nacos.admin.publish(GCM, "a: 2")
    nacos.admin.rollback(GCM, next(nacos.admin.history(GCM)).version_id)
    assert nacos.config.get(GCM).content == "a: 1"


def test_documents_that_are_not_encrypted_pass_through(nacos: NacosClient) -> None:
    nacos.admin.publish("app.yaml", SECRET)
    nacos.admin.publish("cipher-other-app.yaml", SECRET)
    assert nacos.config.get("app.yaml").content == SECRET
    assert nacos.config.get("cipher-other-app.yaml").content == SECRET


@given(content=st.text(min_size=1), data_id=st.text(min_size=1))
def test_aes_gcm_gives_back_what_it_was_given(content: str, data_id: str) -> None:
    cipher = AesGcmCipher({"k": b"0" * 32})
    sealed, wrapped = cipher.encrypt(data_id, content)
    assert cipher.decrypt(data_id, sealed, wrapped) == content
    assert cipher.encrypt(data_id, content) != (sealed, wrapped)


def test_cipher_text_is_bound_to_its_data_id_and_key() -> None:
    cipher = AesGcmCipher({"k": b"0" * 32})
    sealed, wrapped = cipher.encrypt("cipher-aesgcm-a", SECRET)
    with pytest.raises(CipherError, match="under another name"):
        cipher.decrypt("cipher-aesgcm-b", sealed, wrapped)
    with pytest.raises(CipherError, match="cannot be decrypted"):
        AesGcmCipher({"k": b"1" * 32}).decrypt("cipher-aesgcm-a", sealed, wrapped)
    with pytest.raises(CipherError, match="cannot be decrypted"):
        cipher.decrypt("cipher-aesgcm-a", sealed[:-4] + "AAA=", wrapped)
    with pytest.raises(CipherError, match="cannot be decrypted"):
        cipher.decrypt("cipher-aesgcm-a", "no base64!", wrapped)
    with pytest.raises(CipherError, match="give that key too"):
        cipher.decrypt("cipher-aesgcm-a", sealed, "old" + wrapped)


def test_keys_can_be_rotated(nacos: NacosClient) -> None:
    old, new = os.urandom(32), os.urandom(32)
    keys = {"old": old}
    cipher = AesGcmCipher(lambda: keys)
    written = cipher.encrypt(GCM, SECRET)
    keys = {"new": new, "old": old}
    assert cipher.decrypt(GCM, *written) == SECRET
    assert cipher.encrypt(GCM, SECRET)[1].startswith("new:")


def test_keys_come_from_the_environment_and_are_not_repeated_in_errors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = base64.b64encode(b"k" * 32).decode()
    monkeypatch.setenv("NACOS_CIPHER_KEYS", f"new:{key}, old:{key}")
    assert keys_from_environment() == {"new": b"k" * 32, "old": b"k" * 32}
    assert AesGcmCipher().encrypt("a", "b")[1].startswith("new:")
    for broken in ("", key, "id:not base64"):
        monkeypatch.setenv("NACOS_CIPHER_KEYS", broken)
        with pytest.raises(CipherError, match="NACOS_CIPHER_KEYS must hold keys") as caught:
            keys_from_environment()
        assert not broken or broken not in str(caught.value)


@pytest.mark.parametrize(("keys", "why"), [({}, "has no key"), ({"k": b"short"}, "16, 24 or 32")])
def test_keys_that_are_none_are_named(keys: dict[str, bytes], why: str) -> None:
    with pytest.raises(CipherError, match=why):
        AesGcmCipher(keys).encrypt("a", "b")


def test_what_nacos_own_plugin_wrote_is_read() -> None:
    """Key and vector as AesEncryptionPluginService derives them, with an independent AES."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    key = "00112233445566778899aabbccddeeff"
    padded = b"a: 1" + bytes([12]) * 12
    encryptor = Cipher(algorithms.AES(bytes.fromhex(key)), modes.CBC(key[:16].encode())).encryptor()
    sealed = (encryptor.update(padded) + encryptor.finalize()).hex()
    wrapped = base64.b64encode(key.encode()).decode()
    data = {"content": sealed, "md5": "m", "encryptedDataKey": wrapped, "contentType": "text"}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json={"code": 0, "data": data}))
    with NacosClient(
        "127.0.0.1:1", transport=transport, ciphers=[NacosAesCipher()], snapshot_dir=""
    ) as nacos:
        assert nacos.config.get("cipher-aes-app.yaml").content == "a: 1"


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ("zz", "MDAxMTIyMzM0NDU1NjY3Nzg4OTlhYWJiY2NkZGVlZmY="),
        ("00" * 16, "MDAxMTIyMzM0NDU1NjY3Nzg4OTlhYWJiY2NkZGVlZmY="),
        ("00" * 16, "no base64!"),
    ],
)
def test_what_the_plugin_did_not_write_is_a_named_error(content: str, key: str) -> None:
    with pytest.raises(CipherError, match="not encrypted as Nacos' AES plugin"):
        NacosAesCipher().decrypt("cipher-aes-a", content, key)
