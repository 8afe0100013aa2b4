import importlib.util
import sys

import pytest

from lane_router import ColouringRules, OtelLaneObserver, instrument, uninstrument
from lane_router.instrumentation import LIBRARIES
from microservice_core import MissingDependencyError


def test_a_library_that_is_not_installed_is_left_out_without_an_error() -> None:
    installed = tuple(name for name in LIBRARIES if importlib.util.find_spec(name))
    assert instrument(mesh_hosts=["orders"]) == installed
    uninstrument()


def test_metrics_without_opentelemetry_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "lane-router\[otel\]"'):
        OtelLaneObserver()


def test_rules_in_yaml_without_pyyaml_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "lane-router\[yaml\]"'):
        ColouringRules.read("rules: []", "yaml")
