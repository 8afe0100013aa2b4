import pytest

from microservice_core import ConfigResult
from microservice_kit import InvalidConfigError
from microservice_kit.config.parsing import parse


def document(content: str) -> ConfigResult:
    return ConfigResult(content, "", None, "yaml", "app.yaml", "", "")


def test_yaml_is_read() -> None:
    assert parse(document("db:\n  pool: 5\n")) == {"db": {"pool": 5}}


@pytest.mark.parametrize("content", ["", "\n", "# only a comment\n", "---\n"])
def test_a_document_without_content_is_no_data(content: str) -> None:
    assert parse(document(content)) == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [1, 2", r"in line 1 it must be YAML"),
        ("a: 1\n b: 2\n", r"in line 2 it must be YAML"),
        ("a: \x00", r"it must have no control characters"),
        ("!!python/object/apply:os.system ['true']", r"no tags but those of the core schema"),
        ("just words", r"its top level is a str"),
        ("--- {a: 1}\n--- {a: 2}", r"in line 2 it must be one YAML document"),
        ("- " * 2000 + "a", r"nested at most 64 levels deep"),
        ("a: " + "[" * 70 + "]" * 70, r"nested at most 64 levels deep"),
        ("a: &a [*a]", r"no alias of a value within itself"),
        ("a: &a {b: *a}", r"no alias of a value within itself"),
    ],
)
def test_broken_yaml_says_where(content: str, message: str) -> None:
    with pytest.raises(InvalidConfigError, match=message):
        parse(document(content))


@pytest.mark.parametrize("fan", ["[{}]", "{{<<: [{}]}}"])
def test_aliases_of_aliases_are_refused_before_they_are_built(fan: str) -> None:
    lines = ["a0: &a0 {x: 1, y: 2}"]
    for level in range(1, 12):
        aliases = ", ".join([f"*a{level - 1}"] * 10)
        lines.append(f"a{level}: &a{level} {fan.format(aliases)}")
    with pytest.raises(
        InvalidConfigError, match="at most 100000 keys and values, aliases included"
    ):
        parse(document("\n".join(lines)))


def test_aliases_and_merge_keys_are_read() -> None:
    content = "base: &base {pool: 5, url: a}\nread: {<<: *base, url: b}\nsame: *base\n"
    assert parse(document(content)) == {
        "base": {"pool": 5, "url": "a"},
        "read": {"pool": 5, "url": "b"},
        "same": {"pool": 5, "url": "a"},
    }


@pytest.mark.parametrize(
    "value",
    ["!!timestamp S3cretPw", "!!bool S3cretPw", "!!int ''", "*S3cretPw", "!S3cretPw", "'S3cretPw"],
)
def test_an_error_shows_no_value(value: str) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        parse(document(f"password: {value}"))
    assert "s3cretpw" not in str(caught.value).lower()
    assert caught.value.__cause__ is None


def test_what_looks_like_something_else_in_yaml_1_1_stays_what_was_written() -> None:
    content = "on: yes\nday: 2026-13-45\ntime: 1:59:59\n8080: off\nreal: [true, null, 7, 1.5]\n"
    assert parse(document(content)) == {
        "on": "yes",
        "day": "2026-13-45",
        "time": "1:59:59",
        "8080": "off",
        "real": [True, None, 7, 1.5],
    }
