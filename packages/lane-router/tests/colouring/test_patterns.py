"""`matches`: the language of the standard library's expressions, in linear time."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lane_router import ColouringRules, GatewayRequest, RulesError


def matches(pattern: str, value: str) -> bool:
    condition = {"on": "header:x-user", "matches": pattern}
    rule = {"name": "one", "lane": "dev", "match": condition}
    chosen = ColouringRules.parse({"rules": [rule]})
    return chosen.lane_for(GatewayRequest(headers={"x-user": value})) == "dev"


@pytest.mark.parametrize(
    ("pattern", "accepted", "refused"),
    [
        ("", [""], ["a"]),
        ("abc", ["abc"], ["ab", "abcd", "xabc"]),
        ("^abc$", ["abc"], ["abc\n", "^abc$"]),
        ("^a|b$", ["a", "b"], ["ab"]),
        ("a|", ["a", ""], ["b"]),
        ("a*", ["", "aaa"], ["ab"]),
        ("a+?b??", ["a", "aab"], ["", "abb"]),
        ("a{2}", ["aa"], ["a", "aaa"]),
        ("a{2,}", ["aa", "aaaaa"], ["a"]),
        ("a{,2}", ["", "a", "aa"], ["aaa"]),
        ("a{,}", ["", "aaa"], ["b"]),
        ("a{0}b", ["b"], ["ab"]),
        ("(ab){1,3}", ["ab", "ababab"], ["", "abababab"]),
        ("(?:a|b)(?P<n>c)", ["ac", "bc"], ["c"]),
        ("[a-c]+[^a-c]", ["abcd"], ["abc", "d"]),
        ("[]a]+", ["]a]"], ["[]"]),
        ("[^]]", ["a"], ["]"]),
        (r"[\]\d]+", ["]7"], ["a"]),
        (r"\d+\.\w\s\S", ["12.a b"], ["12,a b"]),
        (r"\x41\u00e9\n\-", ["A\u00e9\n-"], ["A"]),
        (".", ["a", "\u00e9"], ["\n", ""]),
        ("(?i)abc[x-z]", ["ABCX", "abcz"], ["abca"]),
        ("a{b}{}", ["a{b}{}"], ["a"]),
        (".+@example[.]com", ["me@example.com"], ["@example.com", "me@exampleXcom"]),
    ],
)
def test_an_expression_is_what_the_standard_library_takes_it_for(
    pattern: str, accepted: list[str], refused: list[str]
) -> None:
    for value in accepted:
        assert matches(pattern, value), value
        assert re.fullmatch(pattern, value), value
    for value in refused:
        assert not matches(pattern, value), value
        assert not re.fullmatch(pattern, value), value


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(?=a)", "only the groups"),
        ("(?<!a)b", "only the groups"),
        ("(?i:a)", "only the groups"),
        ("(?P=n)", "only the groups"),
        ("a(?i)b", "only the groups"),
        (r"(a)\1", "this escape is not supported at character 4"),
        (r"\bA", "this escape is not supported"),
        ("a\\", "this escape is not supported"),
        ("(a", r"there is no '\)'"),
        ("a)", r"there is no '\('"),
        ("[a", r"there is no '\]'"),
        ("[]", "unterminated"),
        ("[z-a]", "bad character range"),
        ("*a", "nothing to repeat"),
        ("{2}", "nothing to repeat"),
        ("a**", "a quantifier of a quantifier"),
        ("a++", "a quantifier of a quantifier"),
        ("a{2}{3}", "a quantifier of a quantifier"),
        ("a{3,2}", "the least number is above the greatest"),
        ("a^b", "at the ends only"),
        ("(a$)", "at the ends only"),
        ("a{257}", "longer than 256"),
        ("a{99999999999}", "longer than 256"),
        ("(){999999999}", "longer than 256"),
        ("((a{10}){10}){10}", "longer than 256"),
        ("(" * 40 + ")" * 40, "nested deeper than 32"),
        ("(" * 5000, "more than 1024 characters"),
    ],
    ids=lambda value: value[:30],
)
def test_what_cannot_be_matched_in_linear_time_is_refused_with_its_place(
    pattern: str, message: str
) -> None:
    with pytest.raises(
        RulesError, match=f"match.matches must be a regular expression: .*{message}"
    ):
        matches(pattern, "a")


# Each takes `re` exponential or polynomial time, so that this would never end.
@pytest.mark.parametrize(
    "pattern",
    [
        "([a-z0-9]+-?)+@example[.]com",
        "(a*)*b",
        "(a|a)*b",
        "(a|aa)+$b",
        ".*.*.*.*.*.*.*.*b",
        "(.*a){20}b",
        "(a?){100}a{100}b",
        "([ab]*[ac]*[ad]*)*x",
    ],
)
def test_the_longest_value_takes_each_expression_one_pass(pattern: str) -> None:
    pattern = pattern.replace("$b", "b")
    assert not matches(pattern, "a" * 4096)
    assert not matches(pattern, "ab-1" * 1023 + "a")


PATTERNS = st.recursive(
    st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\w", ""]),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map("".join)
        | st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"({'|'.join(parts)})")
        | st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "{2,}", "*?"])).map(
            lambda pair: f"(?:{pair[0]}){pair[1]}"
        )
    ),
    max_leaves=8,
)


@given(pattern=PATTERNS, value=st.text(alphabet="abc\n", max_size=8))
@example(pattern="(?:(?:a?){2})*", value="aaa")
def test_every_expression_matches_what_it_matches_in_the_standard_library(
    pattern: str, value: str
) -> None:
    assert matches(pattern, value) == (re.fullmatch(pattern, value) is not None)


@given(st.text(alphabet="ab(|)[]{}*+?.^$\\,-0129:iP<>=!d", max_size=20))
def test_of_any_text_there_is_an_expression_or_the_one_error(pattern: str) -> None:
    try:
        matched = matches(pattern, "ab")
    except RulesError:
        return
    assert matched == (re.fullmatch(pattern, "ab") is not None)


def test_what_is_remembered_of_the_values_is_bounded() -> None:
    condition = {"on": "header:x-user", "matches": "[^a]*"}
    rule = {"name": "one", "lane": "dev", "match": condition}
    chosen = ColouringRules.parse({"rules": [rule]})
    for start in range(0x100, 0x4000, 4096):
        value = "".join(map(chr, range(start, start + 4096)))
        assert chosen.lane_for(GatewayRequest(headers={"x-user": value})) == "dev"
