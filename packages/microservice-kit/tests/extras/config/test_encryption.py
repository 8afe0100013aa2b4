import base64
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from microservice_core import InMemoryConfigCenter
from microservice_core.testing.clock import settle
from microservice_kit import (
    ConfigEncryption,
    ConfigService,
    DecryptionError,
    InvalidConfigError,
    encrypt,
)
from microservice_kit.config.documents import ConfigSnapshot
from microservice_kit.config.encryption import find_encrypted_keys
from microservice_kit.module import AnyConfig

KEYS = {"": b"k" * 32, "2026": b"n" * 32}
encryption = ConfigEncryption(KEYS.__getitem__)


class Settings(AnyConfig):
    password: SecretStr = SecretStr("")
    urls: tuple[str, ...] = ()


@given(st.text(), st.sampled_from(["", "2026"]))
def test_what_is_encrypted_comes_back_and_is_never_the_same_twice(text: str, key_id: str) -> None:
    sealed = encryption.encrypt(text, key_id)
    assert encryption.decrypt(sealed) == text
    assert sealed != encryption.encrypt(text, key_id)
    assert encryption.decrypt(f"  {sealed}\n") == text


@given(st.integers(min_value=0), st.integers(0, 7))
def test_a_single_changed_bit_is_noticed(position: int, bit: int) -> None:
    sealed = encryption.encrypt("secret")
    body = bytearray(base64.urlsafe_b64decode(sealed[len("ENC(v1..") : -1]))
    body[position % len(body)] ^= 1 << bit
    changed = f"ENC(v1..{base64.urlsafe_b64encode(body).decode()})"
    with pytest.raises(DecryptionError, match="another key, or changed since"):
        encryption.decrypt(changed)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ENC(abc)", "it is not of the form"),
        ("ENC(v1..!!)", "it is not of the form"),
        ("ENC(v1..AAAA)", "another key"),
    ],
)
def test_what_is_no_encrypted_value_is_refused(text: str, message: str) -> None:
    with pytest.raises(DecryptionError, match=message) as refused:
        encryption.decrypt(text)
    assert text not in str(refused.value)


def test_a_key_of_the_wrong_length_is_named_without_being_shown() -> None:
    weak = ConfigEncryption(lambda _: b"short-key")
    with pytest.raises(DecryptionError, match="the key has 9 bytes, it must have 32") as refused:
        weak.encrypt("x")
    assert "short-key" not in str(refused.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "set MICROSERVICE_CONFIG_KEY_2026_A to 32 random bytes in base64"),
        ("not base64!", "MICROSERVICE_CONFIG_KEY_2026_A is not valid base64"),
    ],
)
def test_the_variable_that_holds_the_key_is_named(
    value: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value:
        monkeypatch.setenv("MICROSERVICE_CONFIG_KEY_2026_A", value)
    with pytest.raises(DecryptionError, match=message):
        ConfigEncryption().encrypt("x", "2026-a")


def test_encrypted_keys_are_found_in_mappings_and_lists() -> None:
    sealed = encryption.encrypt("x")
    data = {"a": {"b": sealed, "c": 1}, "d": [sealed], "e": "plain"}
    assert find_encrypted_keys(data) == {"a.b", "d"}


async def opened(
    content: str, snapshot: ConfigSnapshot | None = None
) -> tuple[InMemoryConfigCenter, ConfigService[Settings]]:
    center = InMemoryConfigCenter({"a.json": content})
    service = ConfigService(Settings, center, ["a.json"], encryption=encryption, snapshot=snapshot)
    await service.open()
    return center, service


async def test_values_are_decrypted_for_the_model_and_masked_everywhere_else() -> None:
    sealed = encryption.encrypt("hidden-one")
    _, service = await opened(f'{{"password": "{sealed}", "urls": ["{sealed}"]}}')
    assert service.current.password.get_secret_value() == "hidden-one"
    assert service.current.urls == ("hidden-one",)
    assert "hidden-one" not in repr(service.version)
    await service.close()


async def test_a_change_of_an_encrypted_value_shows_neither_old_nor_new() -> None:
    center, service = await opened(f'{{"dsn": "{encryption.encrypt("hidden-one")}"}}')
    await center.publish_config("a.json", f'{{"dsn": "{encryption.encrypt("two", "2026")}"}}')
    await settle()
    (change,) = service.diff(1, 2)
    assert (change.key, change.old, change.new) == ("dsn", "******", "******")
    await service.close()


async def test_a_whole_document_may_be_encrypted_and_its_snapshot_stays_so(tmp_path: Path) -> None:
    file = tmp_path / "snapshot.json"
    _, service = await opened(
        encryption.encrypt('{"password": "hidden-one"}'), ConfigSnapshot(file)
    )
    assert service.current.password.get_secret_value() == "hidden-one"
    assert service.text("a.json") == '{"password": "hidden-one"}'
    assert "hidden-one" not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    await service.close()


async def test_a_value_of_another_key_keeps_the_last_good_version() -> None:
    center, service = await opened('{"urls": ["a"]}')
    foreign = ConfigEncryption(lambda _: b"x" * 32).encrypt("stolen")
    await center.publish_config("a.json", f'{{"urls": ["{foreign}"]}}')
    await settle()
    assert service.current.urls == ("a",)
    assert isinstance(service.problem, InvalidConfigError)
    assert foreign not in str(service.problem)
    await service.close()


def test_the_command_encrypts_standard_input_with_the_key_of_the_environment() -> None:
    key = base64.b64encode(KEYS["2026"]).decode()
    command = [sys.executable, "-W", "error", "-m", "microservice_kit.encrypt", "2026"]
    environment = {**os.environ, "MICROSERVICE_CONFIG_KEY_2026": key}
    done = subprocess.run(
        command, input="secret", env=environment, capture_output=True, text=True, check=True
    )
    assert encryption.decrypt(done.stdout) == "secret"
    del environment["MICROSERVICE_CONFIG_KEY_2026"]
    refused = subprocess.run(
        command, input="secret", env=environment, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 1
    assert "set MICROSERVICE_CONFIG_KEY_2026" in refused.stderr


def test_the_command_prints_what_can_be_decrypted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MICROSERVICE_CONFIG_KEY", base64.b64encode(bytes(32)).decode())
    monkeypatch.setattr(sys, "stdin", io.StringIO("s3cret"))
    monkeypatch.setattr(sys, "argv", ["encrypt"])
    assert encrypt.main() == 0
    assert ConfigEncryption().decrypt(capsys.readouterr().out.strip()) == "s3cret"


def test_the_command_says_what_is_wrong_with_the_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MICROSERVICE_CONFIG_KEY", raising=False)
    monkeypatch.setattr(sys, "stdin", io.StringIO("s3cret"))
    monkeypatch.setattr(sys, "argv", ["encrypt"])
    assert encrypt.main() == 1
    assert "set MICROSERVICE_CONFIG_KEY" in capsys.readouterr().err


@pytest.mark.parametrize(
    "data",
    [
        {"key": [{"url": "SEALED"}]},
        {"key": [["SEALED"]]},
        {"key": [{"a": [{"b": "SEALED"}]}]},
    ],
)
def test_an_encrypted_value_is_found_at_any_depth(data: dict[str, object]) -> None:
    sealed = encryption.encrypt("secret")
    document = json.loads(json.dumps(data).replace("SEALED", sealed))
    assert find_encrypted_keys(document) == {"key"}


async def show_change(before: str, after: str) -> str:
    """What people see of a change from one document to another."""
    center = InMemoryConfigCenter({"a.json": before})
    service = ConfigService(AnyConfig, center, ["a.json"], encryption=encryption)
    await service.open()
    try:
        await center.publish_config("a.json", after)
        await settle()
        assert service.problem is None
        return repr(service.diff(1, 2))
    finally:
        await service.close()


async def test_the_values_of_a_document_that_is_encrypted_as_a_whole_are_masked() -> None:
    before, after = (
        encryption.encrypt(json.dumps({"db": {"url": f"postgres://app:{word}@db", "n": 1}}))
        for word in ("former-word", "present-word")
    )
    seen = await show_change(before, after)
    assert "db.url" in seen
    assert "word@db" not in seen


async def test_a_secret_inside_a_list_is_masked() -> None:
    document = {"databases": [{"url": encryption.encrypt("former-word")}]}
    changed = {"databases": [{"url": encryption.encrypt("present-word")}]}
    seen = await show_change(json.dumps(document), json.dumps(changed))
    assert "databases" in seen
    assert "-word" not in seen


@pytest.mark.parametrize("secret", ["pa${S3cret}Pw", "$${x", "${", "$$${a}$", "a$${b:${c}}"])
async def test_what_was_decrypted_is_never_expanded(secret: str) -> None:
    center = InMemoryConfigCenter({"a.json": json.dumps({"word": encryption.encrypt(secret)})})
    service = ConfigService(AnyConfig, center, ["a.json"], encryption=encryption)
    await service.open()
    try:
        assert service.current.model_dump() == {"word": secret}
    finally:
        await service.close()
