from pathlib import Path

import pytest

from lane_router import ColouringRules, GatewayRequest, RuleFile, RulesError

GOOD = "rules:\n- {name: a, lane: dev, expires_at: 2100-01-01T00:00:00Z}\n"
ALIASES = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefg", "bcdefgh", strict=True)
)


def test_rules_may_be_written_in_yaml(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(GOOD)
    assert RuleFile(path).lane_for(GatewayRequest()) == "dev"


def test_a_condition_in_yaml_is_the_documented_one() -> None:
    rules = ColouringRules.read(
        "rules:\n  - name: testers\n    lane: dev\n    match: {on: 'header:x-user', equals: '7'}\n",
        "yaml",
    )
    assert rules.lane_for(GatewayRequest(headers={"x-user": "7"})) == "dev"
    assert rules.lane_for(GatewayRequest(headers={"x-user": "8"})) is None


def test_a_text_that_is_not_yaml_is_refused() -> None:
    with pytest.raises(RulesError, match="the colouring rules, line 1: it must be YAML"):
        ColouringRules.read("a: [", "yaml")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("rules: !!bool x", "line 1: it must have values that fit their tags"),
        ("rules: !!timestamp x", "line 1: it must have no tags"),
        (f"rules: [{{name: a, lane: dev, percentage: 0x{'f' * 4000}}}]", "at most 100 digits"),
        (f"{ALIASES}rules: [{{name: a, lane: *h}}]", "aliases included"),
        ("rules: [", "line 1: it must be YAML"),
    ],
    ids=lambda value: value[:30],
)
def test_rules_that_cannot_be_read_never_raise_into_a_request(
    tmp_path: Path, content: str, problem: str
) -> None:
    path, now = tmp_path / "rules.yaml", [0.0]
    path.write_text(GOOD)
    rules = RuleFile(path, clock=lambda: now[0])
    path.write_text(content)
    now[0] = 10.0
    assert rules.lane_for(GatewayRequest()) == "dev"
    assert problem in rules.problem
    path.write_text(GOOD.replace("dev", "new"))
    now[0] = 20.0
    assert (rules.lane_for(GatewayRequest()), rules.problem) == ("new", "")
