"""Misspelt names: the nearest known one, and the warning about environment variables."""

from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microservice_core import find_nearest_name, warn_about_unknown_variables

KNOWN = frozenset({"NACOS_SERVER_ADDR", "NACOS_NAMESPACE", "NACOS_USERNAME", "NACOS_PASSWORD"})


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("service_nme", "service_name"),
        ("prot", "port"),
        ("ports", "port"),
        ("namespace", ""),
        ("", ""),
    ],
)
def test_the_nearest_name_is_found_when_it_is_near(name: str, nearest: str) -> None:
    assert find_nearest_name(name, {"service_name", "port"}) == nearest


@given(st.sampled_from(sorted(KNOWN)), st.data())
def test_a_name_with_one_slip_is_found(name: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(name) - 1))
    letter = data.draw(st.sampled_from(["", "X", name[place] * 2]))
    assert find_nearest_name(name[:place] + letter + name[place + 1 :], KNOWN) == name


def unique(name: str) -> str:
    """A variable of this test alone: each is warned about once in a process."""
    return f"{name}__{uuid4().hex}"


def test_a_misspelt_variable_is_warned_about_once(caplog: pytest.LogCaptureFixture) -> None:
    name = unique("NACOS_NAMESPACE_ID")
    for _ in range(2):
        warn_about_unknown_variables("NACOS_", KNOWN, environment={name: "dev", "PATH": "/"})
    assert [record.getMessage() for record in caplog.records] == [
        f"environment variable {name} is not read; did you mean NACOS_NAMESPACE?"
    ]


@pytest.mark.parametrize(
    "name",
    [
        "NACOS_SERVER_ADDR",
        "nacos_server_addr",
        "NACOS_PASSWORD__OLD",
        "NACOS_CIPHER_KEYS",
        "NACOS_USERNAMES_ALL",
        "NACOS_SERVICE_HOST",
        "NACOS_SERVICE_PORT_HTTP",
        "NACOS_PORT",
        "NACOS_PORT_8848_TCP_ADDR",
        "KNACOS_NAMESPACE",
    ],
)
def test_what_is_read_or_belongs_to_another_is_left_alone(name: str) -> None:
    assert (
        warn_about_unknown_variables(
            "NACOS_", KNOWN, known_prefixes=["NACOS_USERNAMES_"], environment={name: ""}
        )
        == ()
    )


def test_the_process_s_own_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    name = unique("SPELLING_TEST_PORTS")
    monkeypatch.setenv(name, "1")
    assert warn_about_unknown_variables("SPELLING_TEST_", {"SPELLING_TEST_PORT"}) == (name,)
