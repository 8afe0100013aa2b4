"""Sphinx settings; the table of defaults is written anew from the models at each build."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from microservice_client import ServicePolicy
from microservice_governance import (
    BreakerConfig,
    BulkheadConfig,
    HedgeConfig,
    LimitConfig,
    RetryConfig,
)
from microservice_kit import MicroserviceSettings
from nacos_client import Settings as NacosSettings

if TYPE_CHECKING:
    from pydantic import BaseModel
    from sphinx.application import Sphinx

project = "microservice toolkit"
author = "The microservice toolkit maintainers"
copyright = author  # noqa: A001 - Sphinx's name for it
extensions = ["myst_parser"]
html_theme = "furo"
html_title = "The Python microservice toolkit"
exclude_patterns = ["_build"]
html_extra_path = ["cluster-report.html"]
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

MODELS: dict[str, type[BaseModel]] = {
    "A call: `microservice_client.ServicePolicy`": ServicePolicy,
    "A breaker: `microservice_governance.BreakerConfig`": BreakerConfig,
    "A retry: `microservice_governance.RetryConfig`": RetryConfig,
    "A rate limit: `microservice_governance.LimitConfig`": LimitConfig,
    "A bulkhead: `microservice_governance.BulkheadConfig`": BulkheadConfig,
    "A hedge: `microservice_governance.HedgeConfig`": HedgeConfig,
    "A service: `microservice_kit.MicroserviceSettings`": MicroserviceSettings,
    "Nacos: `nacos_client.Settings`": NacosSettings,
}


def write_defaults(_: Sphinx) -> None:
    """One table per settings model."""
    lines = ["# Defaults", "", "Written from the models; seconds unless the name says otherwise."]
    for title, model in MODELS.items():
        lines += ["", f"## {title}", "", "| setting | default |", "|---|---|"]
        for name, field in model.model_fields.items():
            default = field.get_default(call_default_factory=True, validated_data={})
            lines.append(f"| `{name}` | `{'required' if field.is_required() else repr(default)}` |")
    target = Path(__file__).parent / "reference" / "defaults.md"
    target.parent.mkdir(exist_ok=True)
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Hook the table in."""
    app.connect("builder-inited", write_defaults)
