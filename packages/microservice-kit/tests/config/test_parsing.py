import pytest
from hypothesis import given
from hypothesis import strategies as st

from microservice_core import ConfigResult
from microservice_kit import InvalidConfigError
from microservice_kit.config.data import deep_merge
from microservice_kit.config.parsing import parse


def document(content: str, content_type: str) -> ConfigResult:
    return ConfigResult(content, "", None, content_type, f"app.{content_type}", "", "")


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        ('{"db": {"pool": "5"}}', "json"),
        ('[db]\npool = "5"', "toml"),
        ("# a comment\n\ndb.pool = 5\n! another", "properties"),
    ],
)
def test_each_format_gives_the_same_data(content: str, content_type: str) -> None:
    assert parse(document(content, content_type)) == {"db": {"pool": "5"}}


@pytest.mark.parametrize(
    ("content_type", "name"), [("json", "app.toml"), ("text", "app.json"), ("json", "app")]
)
def test_the_type_tells_the_format_and_the_name_where_the_type_says_nothing(
    content_type: str, name: str
) -> None:
    result = ConfigResult('{"a": 1}', "", None, content_type, name, "", "")
    assert parse(result) == {"a": 1}


def test_a_text_is_no_data() -> None:
    assert parse(ConfigResult('{"a": 1}', "", None, "text", "app.txt", "", "")) == {}


@pytest.mark.parametrize("content_type", ["json", "toml", "properties"])
def test_an_empty_document_is_no_data(content_type: str) -> None:
    assert parse(document("  \n", content_type)) == {}


@pytest.mark.parametrize(
    ("content", "content_type", "message"),
    [
        ('{"a": }', "json", r"in line 1 it must be JSON \(Expecting value\)"),
        ("a = ", "toml", r"in line 1 it must be TOML \(Invalid value\)"),
        ("just words", "properties", r"in line 1 it must have lines of `key = value`"),
        ("[1, 2]", "json", r"its top level is a list, it must be a mapping"),
        ('{"a":' * 5000 + "1" + "}" * 5000, "json", "it must be nested at most 64 levels deep"),
        ('{"a":' * 70 + "1" + "}" * 70, "json", "it must be nested at most 64 levels deep"),
        ("a = " + "[" * 70 + "]" * 70, "toml", "it must be nested at most 64 levels deep"),
        ("a." * 3000 + "b=1", "properties", "it must be nested at most 64 levels deep"),
        ('{"a": ' + "1" * 5000 + "}", "json", "numbers of at most 100 digits"),
        ("a = " + "1" * 5000, "toml", "numbers and dates that can be read"),
        ("<a/>", "xml", r"content type 'xml' is none of json, properties, text, toml, yaml"),
    ],
)
def test_a_broken_document_says_where_and_why(
    content: str, content_type: str, message: str
) -> None:
    with pytest.raises(InvalidConfigError, match=message) as caught:
        parse(document(content, content_type))
    assert caught.value.document == f"app.{content_type}"


data = st.recursive(
    st.integers(),
    lambda inner: st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)
mappings = st.dictionaries(st.text(max_size=3), data, max_size=4)


@given(mappings, mappings)
def test_the_higher_layer_wins_every_plain_value(
    low: dict[str, object], high: dict[str, object]
) -> None:
    merged = deep_merge(low, high)
    assert set(merged) == set(low) | set(high)
    for key, value in high.items():
        if not isinstance(value, dict):
            assert merged[key] == value


@given(mappings, mappings)
def test_merging_leaves_its_arguments_alone(
    low: dict[str, object], high: dict[str, object]
) -> None:
    before = repr((low, high))
    deep_merge(low, high)
    assert repr((low, high)) == before


@given(mappings)
def test_an_empty_layer_or_the_same_again_changes_nothing(layer: dict[str, object]) -> None:
    assert deep_merge({}, layer) == deep_merge(layer, {}) == deep_merge(layer, layer) == layer


def test_lists_are_replaced_not_joined() -> None:
    assert deep_merge({"a": [1, 2], "b": {"x": 1}}, {"a": [3], "b": {"y": 2}}) == {
        "a": [3],
        "b": {"x": 1, "y": 2},
    }
