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
        ("a: [1, 2", r"not valid YAML in line 1, column 9"),
        ("a: 1\n b: 2\n", r"not valid YAML in line 2"),
        ("a: \x00", r"not valid YAML \(unreadable characters\)"),
        ("!!python/object/apply:os.system ['true']", r"not valid YAML"),
        ("just words", r"its top level is a str"),
        ("--- {a: 1}\n--- {a: 2}", r"not valid YAML in line 2"),
        ("- " * 2000 + "a", r"nested more than 64 levels deep"),
        ("a: " + "[" * 70 + "]" * 70, r"nested more than 64 levels deep"),
        ("day: 2026-13-45", r"a date or a number in it cannot be read"),
        ("a: &a [*a]", r"its aliases expand to more than 100000 values"),
        ("a: &a {b: *a}", r"its aliases expand to more than 100000 values"),
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
    with pytest.raises(InvalidConfigError, match="expand to more than 100000 values"):
        parse(document("\n".join(lines)))


def test_aliases_and_merge_keys_are_read() -> None:
    content = "base: &base {pool: 5, url: a}\nread: {<<: *base, url: b}\nsame: *base\n"
    assert parse(document(content)) == {
        "base": {"pool": 5, "url": "a"},
        "read": {"pool": 5, "url": "b"},
        "same": {"pool": 5, "url": "a"},
    }
