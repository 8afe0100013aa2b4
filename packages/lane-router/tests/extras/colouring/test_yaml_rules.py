from pathlib import Path

import pytest

from lane_router import ColouringRules, GatewayRequest, RuleFile, RulesError


def test_rules_may_be_written_in_yaml(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("rules:\n- {name: a, lane: dev, expires_at: 2100-01-01T00:00:00Z}\n")
    assert RuleFile(path).lane_for(GatewayRequest()) == "dev"


def test_a_text_that_is_not_yaml_is_refused() -> None:
    with pytest.raises(RulesError, match="the colouring rules are not YAML"):
        ColouringRules.read("a: [", "yaml")
