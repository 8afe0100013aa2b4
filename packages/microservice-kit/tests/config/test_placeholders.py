import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microservice_core import InMemoryConfigCenter
from microservice_core.testing.clock import settle
from microservice_kit import ConfigService, InvalidConfigError
from microservice_kit.config.placeholders import PlaceholderError, Resolver
from microservice_kit.module import AnyConfig


def resolved(**data: object) -> dict[str, object]:
    return Resolver(data).resolve_all()


def test_a_placeholder_becomes_the_other_key_s_value_with_its_type() -> None:
    data = resolved(db={"pool": 7, "hosts": ["a"]}, size="${db.pool}", all="${db.hosts}")
    assert (data["size"], data["all"]) == (7, ["a"])


def test_inside_a_text_the_value_is_put_in_as_text() -> None:
    data = resolved(
        host="h", port=80, on=True, none=None, url="http://${host}:${port}/${on}${none}"
    )
    assert data["url"] == "http://h:80/true"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${missing:5}", "5"),
        ("${missing:5}$", "5$"),
        ("${missing:}", ""),
        ("${missing:a:b}", "a:b"),
        ("${missing:${also:deep}}", "deep"),
        ("${missing:${present}}", "here"),
        ("$${not.one}", "${not.one}"),
        ("costs $5", "costs $5"),
        ("${ present }", "here"),
        ("${dotted.key}", "flat"),
        ("a${present}b${present}c", "ahereBherec".replace("B", "b")),
    ],
)
def test_defaults_nest_and_a_doubled_dollar_is_plain(text: str, expected: str) -> None:
    data = resolved(text=text, present="here", **{"dotted.key": "flat"})
    assert data["text"] == expected


def test_a_chain_is_followed_to_its_end_also_inside_lists() -> None:
    data = resolved(a="${b}", b="${c}", c=1, many=[{"x": "${a}"}])
    assert (data["a"], data["many"]) == (1, [{"x": 1}])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"a": "${a}"}, "a -> a is a circle"),
        ({"a": "${b}", "b": "x${c}", "c": "${a:5}"}, "is a circle"),
        ({"a": "${nobody}"}, r"\$\{nobody\} names no key; add the key or a default"),
        ({"a": "${open"}, "has no `}`"),
        ({"a": "x ${m}", "m": {"k": 1}}, "cannot stand inside a text"),
    ],
)
def test_what_cannot_be_filled_in_says_why(data: dict[str, object], message: str) -> None:
    with pytest.raises(PlaceholderError, match=message):
        Resolver(data).resolve_all()


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text().filter(lambda text: "$" not in text),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


def build_doubling(levels: int, form: str) -> dict[str, object]:
    data: dict[str, object] = {f"k{n}": form.replace("X", f"${{k{n + 1}}}") for n in range(levels)}
    return {**data, f"k{levels}": "x"}


def test_a_few_lines_that_refer_to_each_other_do_not_fill_the_memory() -> None:
    assert len(str(Resolver(build_doubling(10, "XX")).resolve_all()["k0"])) == 2**10
    for levels in (25, 30):
        with pytest.raises(PlaceholderError, match="more than 1,000,000 characters and values"):
            Resolver(build_doubling(levels, "XX")).resolve_all()


def test_lists_that_refer_to_each_other_do_not_fill_the_memory() -> None:
    data: dict[str, object] = {f"k{n}": [f"${{k{n + 1}}}"] * 10 for n in range(30)}
    with pytest.raises(PlaceholderError, match="more than 1,000,000 characters and values"):
        Resolver({**data, "k30": "x"}).resolve_all()


def test_a_long_chain_is_refused() -> None:
    assert Resolver(build_doubling(30, "X")).resolve_all()["k0"] == "x"
    with pytest.raises(PlaceholderError, match="lead to each other more than 32 deep"):
        Resolver(build_doubling(1500, "X")).resolve_all()


async def test_a_chain_in_an_update_is_a_problem_that_shows() -> None:
    center = InMemoryConfigCenter({"a.json": '{"k": "v"}'})
    service = ConfigService(AnyConfig, center, ["a.json"])
    await service.open()
    try:
        await center.publish_config("a.json", json.dumps(build_doubling(1500, "X")))
        await settle()
        assert "more than 32 deep" in str(service.problem)
        assert service.current.model_dump() == {"k": "v"}
    finally:
        await service.close()


@given(st.dictionaries(st.text(), plain, max_size=5))
def test_data_without_placeholders_stays_as_it_is(data: dict[str, object]) -> None:
    assert Resolver(data).resolve_all() == data


@given(st.text(), st.text().filter(lambda text: "$" not in text))
def test_every_text_survives_escaping(text: str, tail: str) -> None:
    escaped = text.replace("${", "$${") if "$$" not in text and not text.endswith("$") else tail
    plain_text = text if escaped is not tail else tail
    assert Resolver({}).resolve(escaped) == plain_text


async def test_a_document_may_refer_to_the_environment_and_to_later_documents(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Settings(AnyConfig):
        region: str = ""
        url: str = ""

    monkeypatch.setenv("APP_REGION", "eu")
    center = InMemoryConfigCenter(
        {"a.json": '{"url": "https://${host}/${region}"}', "b.json": '{"host": "h"}'}
    )
    service = ConfigService(Settings, center, ["a.json", "b.json"])
    await service.open()
    assert service.current.url == "https://h/eu"
    await service.close()


async def test_a_circle_keeps_the_last_good_version_from_the_start() -> None:
    center = InMemoryConfigCenter({"a.json": '{"x": "${y}", "y": "${x}"}'})
    with pytest.raises(InvalidConfigError, match=r"'a.json' is invalid: .*is a circle"):
        await ConfigService(AnyConfig, center, ["a.json"]).open()
