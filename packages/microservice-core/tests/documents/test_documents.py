"""JSON, TOML and properties, well-formed and malformed."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microservice_core import DocumentError, DocumentFormat, parse_document

PASSWORD = "S3cretPw"


def parse(content: bytes | str, document_format: DocumentFormat, **bounds: int) -> object:
    return parse_document(content, document_format=document_format, name="app.conf", **bounds)


def refuse(content: bytes | str, document_format: DocumentFormat, **bounds: int) -> DocumentError:
    with pytest.raises(DocumentError) as caught:
        parse(content, document_format, **bounds)
    error = caught.value
    assert error.document == "app.conf"
    assert PASSWORD not in str(error)
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None
    return error


@pytest.mark.parametrize(
    ("content", "document_format", "data"),
    [
        ('{"a": [1, 2.5, null, true, "x"]}', "json", {"a": [1, 2.5, None, True, "x"]}),
        ('\ufeff{"a": "\\ud83d\\ude00"}', "json", {"a": "\U0001f600"}),
        (
            "a.b = 1\na.c = 'x'\n[[d]]\ne = 0xff",
            "toml",
            {"a": {"b": 1, "c": "x"}, "d": [{"e": 255}]},
        ),
        ("# no\n! no\n\na.b = 1\n a.c=x = y \n", "properties", {"a": {"b": "1", "c": "x = y"}}),
        ("", "properties", {}),
        ("", "toml", {}),
    ],
)
def test_a_document_is_plain_data(
    content: str, document_format: DocumentFormat, data: object
) -> None:
    assert parse(content, document_format) == data
    assert parse(content.encode(), document_format) == data


@pytest.mark.parametrize(
    ("content", "document_format", "line", "rule"),
    [
        ("", "json", 1, "must be JSON (Expecting value)"),
        (f'{{\n"a": {PASSWORD}}}', "json", 2, "must be JSON (Expecting value)"),
        (f'{{\n"a": "{PASSWORD}', "json", 2, "must be JSON"),
        ('{"a": 1}\n\n!', "json", 3, "must be JSON (Extra data)"),
        ('{"a":\nNaN}', "json", 2, "must be JSON (Expecting value)"),
        ('{"a":\n-Infinity}', "json", 2, "must be JSON (Expecting value)"),
        ('{"a":\n1e999}', "json", 2, "must have numbers that fit into 64 bits"),
        ('{"a":\n1' + "0" * 100 + "}", "json", 2, "must have numbers of at most 100 digits"),
        ('{"a":\n"\\ud800"}', "json", 2, "must have no half of a surrogate pair in a text"),
        ('{\n"\\udc00": 1}', "json", 2, "must have no half of a surrogate pair in a text"),
        ('{\n"' + "k" * 1025 + '" : 1}', "json", 2, "must have keys of at most 1024 characters"),
        ("\n" + "[" * 65 + "]" * 65, "json", 2, "must be nested at most 64 levels deep"),
        ("\n" + "[" * 60_000, "json", 2, "must be nested at most 64 levels deep"),
        ('{"a":\n1-2}', "json", 2, "must be JSON (Expecting ',' delimiter)"),
        ("a = " + "[" * 100_000, "toml", None, "must be nested at most 64 levels deep"),
        (f"a = 1\nb = {PASSWORD}", "toml", 2, "must be TOML (Invalid value)"),
        (f"a = 1\n{PASSWORD}", "toml", 2, "must be TOML (Expected)"),
        (f"[{PASSWORD}]\n[{PASSWORD}]", "toml", 2, "must be TOML"),
        ("a = 2001-99-99", "toml", 1, "must be TOML"),
        ("\na = '", "toml", 2, "must be TOML"),
        ("a = 1" + "0" * 5000, "toml", None, "must have numbers and dates that can be read"),
        ("a = 0x" + "f" * 4000, "toml", None, "must have numbers of at most 100 digits"),
        ("a = " + "[" * 65 + "]" * 65, "toml", None, "must be nested at most 64 levels deep"),
        ("\n" + "a." * 64 + "a = 1", "toml", 2, "must be nested at most 64 levels deep"),
        ("\n" + "'a' . " * 64 + '"a" = 1', "toml", 2, "must be nested at most 64 levels deep"),
        ("k" * 1025 + " = 1", "toml", None, "must have keys of at most 1024 characters"),
        (f"a = 1\n{PASSWORD}", "properties", 2, "must have lines of `key = value`"),
        ("a = 1\n.b = 2", "properties", 2, "must have lines of `key = value`"),
        ("a = 1\na.b = 2", "properties", 2, "must give a key either a value or parts"),
        ("a.b = 1\na = 2", "properties", 2, "must give a key either a value or parts"),
        ("\n" + "a." * 64 + "a = 1", "properties", 2, "must be nested at most 64 levels deep"),
        (b'{"a":\n"\xff"}', "json", 2, "must be UTF-8"),
        ('"\ud800"', "json", 1, "must be UTF-8"),
    ],
    ids=lambda value: f"{value!r:.40} {len(str(value))}",
)
def test_what_cannot_be_read_is_one_error_with_line_and_rule_and_no_content(
    content: str | bytes, document_format: DocumentFormat, line: int | None, rule: str
) -> None:
    error = refuse(content, document_format)
    assert (error.line, error.rule[: len(rule)]) == (line, rule)


def test_the_error_says_where_and_what_to_do() -> None:
    error = refuse("[\n", "json")
    assert str(error) == "app.conf, line 2: it must be JSON (Expecting value); correct the document"
    unknown = refuse("a = 0x" + "f" * 4000, "toml")
    assert str(unknown).startswith("app.conf: it must have numbers of at most 100 digits;")


@pytest.mark.parametrize(
    ("content", "document_format"),
    [
        ("[1,\n2]", "json"),
        ("a = 1\nb = [2, 3]", "toml"),
        ("a = 1\nb.c = 2", "properties"),
    ],
)
def test_bytes_and_values_are_bounded(content: str, document_format: DocumentFormat) -> None:
    size = len(content)
    assert parse(content, document_format, max_bytes=size)
    assert refuse(content, document_format, max_bytes=size - 1).rule == (
        f"must have at most {size - 1} bytes"
    )
    assert refuse(content, document_format, max_values=2).rule == (
        "must have at most 2 keys and values, aliases included"
    )


def test_keys_count_as_values() -> None:
    document = json.dumps({str(number): number for number in range(10)})
    assert parse(document, "json", max_values=21)
    refuse(document, "json", max_values=20)


def test_the_time_for_long_words_without_a_dot_is_linear() -> None:
    parse(f"a = '{'b' * 500_000}'", "toml")
    refuse("b" * 500_000, "toml")


JSON_TEXTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**99), 10**99)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda children: (
        st.lists(children, max_size=4)
        | st.dictionaries(st.text(max_size=100), children, max_size=4)
    ),
    max_leaves=20,
)


@given(JSON_TEXTS)
def test_all_json_is_read_as_the_standard_library_reads_it(data: object) -> None:
    text = json.dumps(data, ensure_ascii=False)
    assert parse(text.encode(), "json") == json.loads(text)
    assert parse(json.dumps(data, indent=1), "json") == json.loads(text)


GARBAGE = st.binary(max_size=200) | st.text(
    alphabet=st.sampled_from("[]{}\",':=.#\\u0018dtruefalsnE+-_ \t\r\n") | st.characters(),
    max_size=200,
)


@pytest.mark.parametrize("document_format", ["json", "toml", "properties"])
@given(content=GARBAGE)
def test_of_garbage_only_the_one_error_comes_out(
    content: bytes | str, document_format: DocumentFormat
) -> None:
    with contextlib.suppress(DocumentError):
        parse(content, document_format)


@pytest.mark.parametrize("document_format", ["json", "toml"])
@given(data=st.data())
def test_of_damaged_documents_only_the_one_error_comes_out(
    document_format: DocumentFormat, data: st.DataObject
) -> None:
    examples: dict[str, str] = {
        "json": json.dumps({"a": [1, 2.5e3, {"b": "\\u00e9"}], "c": None, "d": "x" * 9}),
        "toml": 'a.b = [1, 2.5e3, {c = "\\u00e9"}]\nd = 2026-01-31T12:00:00Z\n[e]\nf = 0xff\n',
    }
    text = examples[document_format]
    place = data.draw(st.integers(0, len(text)))
    cut = data.draw(st.integers(0, 8))
    inserted = data.draw(
        st.text(alphabet=st.sampled_from("[]{}\"'=.,0-9exu\\d\n") | st.characters(), max_size=6)
    )
    with contextlib.suppress(DocumentError):
        parse(text[:place] + inserted + text[place + cut :], document_format)
