# Copied from packages/microservice-core/tests/extras/documents/test_yaml_documents.py by scripts/copy_shared.py: change it there.
"""YAML, well-formed and malformed."""

import contextlib
import json
import math
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lite_registry._documents import DocumentError, parse_document

PASSWORD = "S3cretPw"


def parse(content: bytes | str, **bounds: int) -> object:
    return parse_document(content, document_format="yaml", name="app.yaml", **bounds)


def refuse(content: bytes | str, **bounds: int) -> DocumentError:
    with pytest.raises(DocumentError) as caught:
        parse(content, **bounds)
    error = caught.value
    assert PASSWORD not in str(error)
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None
    return error


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("FALSE", False),
        ("-7", -7),
        ("+7", 7),
        ("010", 10),
        ("0o17", 15),
        ("0xfF", 255),
        (".5", 0.5),
        ("1.", 1.0),
        ("-1.5e+3", -1500.0),
        ("1e3", 1000.0),
        ("-.inf", -math.inf),
        (".INF", math.inf),
        ("!!str 7", "7"),
        ("! 7", "7"),
        ("!!int '7'", 7),
        ("!!float 7", 7.0),
        ("!!bool true", True),
        ("!!null ''", None),
        ("!!seq [1]", [1]),
        ("!!map {a: 1}", {"a": 1}),
        ("'7'", "7"),
        ('"a\\u00e9"', "a\u00e9"),
        ("|\n  a\n  b\n", "a\nb\n"),
        # What YAML 1.1 makes something else of.
        *(
            (text, text)
            for text in ("on", "off", "yes", "No", "y", "1:30", "1_000", "0b1", "<<", "=")
        ),
        *(
            (text, text)
            for text in ("2026-01-31", "2001-99-99", "2026-01-31T12:00:00Z", "-0o7", "1e")
        ),
    ],
    ids=repr,
)
def test_a_scalar_is_what_the_core_schema_of_yaml_1_2_says(text: str, value: object) -> None:
    parsed = parse(f"a: {text}")
    assert parsed == {"a": value}
    assert type(parsed["a"]) is type(value)


def test_not_a_number_is_a_number() -> None:
    assert math.isnan(parse(".nan"))  # type: ignore[arg-type]


def test_keys_are_texts_as_they_are_written() -> None:
    document = "on: 1\n8080: 2\ntrue: 3\n? null\n: 4\n1.50: 5\n!!str x: 6\n'<<': 7\n"
    expected = {"on": 1, "8080": 2, "true": 3, "null": 4, "1.50": 5, "x": 6, "<<": 7}
    assert parse(document) == expected


def test_aliases_and_merge_keys_work() -> None:
    document = """
        base: &base {a: 1, b: 2}
        other: &other {b: 3, c: 4}
        merged: {<<: *base, a: 9}
        both: {<<: [*base, *other], d: *base}
        &key k: v
        """
    assert parse(document) == {
        "base": {"a": 1, "b": 2},
        "other": {"b": 3, "c": 4},
        "merged": {"a": 9, "b": 2},
        "both": {"a": 1, "b": 2, "c": 4, "d": {"a": 1, "b": 2}},
        "k": "v",
    }
    assert parse("a: &x 1\nb: *x\n") == {"a": 1, "b": 1}
    assert parse("a: &x 1\nb: &x 2\nc: *x\n") == {"a": 1, "b": 2, "c": 2}


def test_an_empty_document_is_none() -> None:
    assert parse("") is parse("# nothing\n") is parse("---\n...\n") is None


@pytest.mark.parametrize(
    ("content", "line", "rule"),
    [
        (f"a: 1\npassword: *{PASSWORD}", 2, "must have aliases of anchors before them only"),
        (f"a: 1\npassword: !{PASSWORD}", 2, "must have no tags but those of the core schema"),
        (f"a: 1\npassword: !{PASSWORD}!x y", 2, "must be YAML"),
        (f"a: 1\npassword: !!{PASSWORD} x", 2, "must have no tags but those of the core schema"),
        (f"a: 1\npassword: !!timestamp {PASSWORD}", 2, "must have no tags but those"),
        (f"a: 1\npassword: !!python/name:{PASSWORD} ''", 2, "must have no tags but those"),
        (f"a: 1\npassword: !!bool {PASSWORD}", 2, "must have values that fit their tags"),
        ("a: 1\nb: !!int ''", 2, "must have values that fit their tags"),
        ("a: 1\nb: !!float x", 2, "must have values that fit their tags"),
        ("a: 1\nb: !!null x", 2, "must have values that fit their tags"),
        ("a: 1\nb: !!seq {}", 2, "must have no tags but those"),
        ("a: 1\nb: !!map []", 2, "must have no tags but those"),
        ("a: 1\n!!int 7: x", 2, "must have no tags at keys"),
        (f"a: 1\nb: %{PASSWORD}", 2, "must be YAML"),
        (f"a: 1\nb: '{PASSWORD}", 2, "must be YAML"),
        (f'a: 1\nb: "\\{PASSWORD}"', 2, "must be YAML"),
        ('a: 1\nb: "\\U00110000"', None, "must be YAML that can be read"),
        (f"a: b: {PASSWORD}", 1, "must be YAML (mapping values are not allowed here)"),
        ("a: [1", 1, "must be YAML (expected ',' or ']')"),
        ("a: 1\n\x01", 2, "must have no control characters"),
        ("a: 1\n---\nb: 2\n", 2, "must be one YAML document"),
        ("? [a]\n: 1", 1, "must have keys that are texts"),
        ("? {a: 1}\n: 1", 1, "must have keys that are texts"),
        ("a: &x b\n*x : 1", 2, "must have keys that are no aliases"),
        ("a: &a [1, *a]", 1, "must have no alias of a value within itself"),
        ("a: &a {b: *a}", 1, "must have no alias of a value within itself"),
        ("a: {<<: 7}", 1, "must merge by `<<` a mapping or a list of mappings"),
        ("a: {<<: [7]}", 1, "must merge by `<<` a mapping or a list of mappings"),
        ('a: 1\nb: "\\ud800"', 2, "must have no half of a surrogate pair in a text"),
        ("a: 1\nb: 1" + "0" * 100, 2, "must have numbers of at most 100 digits"),
        ("a: 1\nb: 0x" + "f" * 4000, 2, "must have numbers of at most 100 digits"),
        ("a: 1\nb: 0." + "1" * 100, 2, "must have numbers of at most 100 digits"),
        ("a: 1\nb: 1e999", 2, "must have numbers that fit into 64 bits"),
        ("a: 1\n? " + "k" * 1025 + "\n: 1", 2, "must have keys of at most 1024 characters"),
        ("\n" + "[" * 65 + "]" * 65, 2, "must be nested at most 64 levels deep"),
        ("\n" + "[" * 20_000, 2, "must be nested at most 64 levels deep"),
        ("\n" + "- " * 20_000, 2, "must be nested at most 64 levels deep"),
        ("\n" + "? " * 20_000, 2, "must"),
        ("%YAML 9" + "9" * 5000 + ".1\n--- a", None, "must be YAML"),
    ],
    ids=lambda value: f"{value!r:.40} {len(str(value))}",
)
def test_what_cannot_be_read_is_one_error_with_line_and_rule_and_no_content(
    content: str, line: int | None, rule: str
) -> None:
    error = refuse(content)
    assert (error.line, error.rule[: len(rule)]) == (line, rule)


def test_sexagesimal_numbers_are_texts_however_long() -> None:
    text = "1" + ":59" * 20_000
    assert parse(f"a: {text}") == {"a": text}


def test_an_alias_counts_as_all_that_it_stands_for() -> None:
    names = "abcdefgh"
    lines = ["a: &a [x,x,x,x,x,x,x,x,x]"]
    lines += [
        f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]" for before, name in pairwise(names)
    ]
    error = refuse("\n".join(lines))
    assert (error.line, error.rule) == (
        6,
        "must have at most 100000 keys and values, aliases included",
    )


def test_merging_counts_as_well() -> None:
    lines = ["a: &a {k: 1}"]
    lines += [
        f"{name}: &{name} {{<<: [{','.join([f'*{before}'] * 9)}], {name}: 1}}"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    assert refuse("\n".join(lines)).rule.endswith("aliases included")


def test_aliases_nest_no_deeper_than_brackets() -> None:
    inner = "[" * 40 + "]" * 40
    assert refuse(f"a: &a {inner}\nb: {'[' * 40}*a{']' * 40}").line == 2


def test_values_are_counted_exactly() -> None:
    document = "a: &a [1, 2]\nb: *a\n"  # the mapping, two keys, two lists, four numbers
    assert parse(document, max_values=9)
    refuse(document, max_values=8)


TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"]))
# YAML wants the colon within 1,024 characters, and JSON may write each as six.
KEYS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=100)
DATA = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**99), 10**99) | TEXTS,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(KEYS, children, max_size=4),
    max_leaves=20,
)


@given(DATA)
def test_json_without_surrogates_is_read_as_yaml(data: object) -> None:
    assert parse(json.dumps(data).replace("\\u007f", "\x7f")) == data if _is_plane(data) else True


def _is_plane(data: object) -> bool:
    """JSON writes what lies beyond the first plane as two escapes, which YAML takes for two."""
    return all(ord(character) < 0x10000 for character in json.dumps(data, ensure_ascii=False))


INDICATORS = [
    "a",
    "[",
    "]",
    "{",
    "}",
    "&a",
    "*a",
    "!",
    "|\n",
    ">",
    "'",
    '"',
    "\\",
    "#",
    "~",
    "@",
    "`",
    "\t",
    "0x1",
    "1e9",
    "---\n",
    "...\n",
    "\\U00110000",
]
WITH_SPACES = (
    "b: ",
    "- ",
    ", ",
    "!!int ",
    "!!str ",
    "? ",
    ": ",
    "\n",
    "\n  ",
    "%YAML 1.1\n",
    "<<: ",
)
PIECES = st.sampled_from([*INDICATORS, *WITH_SPACES])


@given(st.lists(PIECES, max_size=30).map("".join) | st.text(max_size=80) | st.binary(max_size=80))
def test_of_garbage_only_the_one_error_comes_out(content: str | bytes) -> None:
    with contextlib.suppress(DocumentError):
        parse(content)


def test_without_pyyaml_it_is_an_import_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ImportError):
        parse("a: 1")
