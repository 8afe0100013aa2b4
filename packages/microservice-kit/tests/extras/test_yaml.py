import pytest

from microservice_core import ConfigResult
from microservice_kit import InvalidConfigError
from microservice_kit.documents import parse


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
        ("just words", r"its top is a str"),
    ],
)
def test_broken_yaml_says_where(content: str, message: str) -> None:
    with pytest.raises(InvalidConfigError, match=message):
        parse(document(content))
