"""Sphinx settings; the reference is written anew from the code at each build."""

from __future__ import annotations

import sys
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

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))
from architecture_pictures import write_pictures
from reference_pages import names_page, settings_page

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


PACKAGES = (
    "microservice_core",
    "microservice_kit",
    "microservice_client",
    "microservice_governance",
    "microservice_lb",
    "lane_router",
    "nacos_client",
    "microservice_nacos",
    "lite_registry",
)


def write_reference(_: Sphinx) -> None:
    """The pages below reference/."""
    folder = Path(__file__).parent / "reference"
    folder.mkdir(exist_ok=True)
    (folder / "defaults.md").write_text(settings_page(MODELS), encoding="utf-8")
    (folder / "names.md").write_text(names_page(PACKAGES), encoding="utf-8")


def draw_architecture(_: Sphinx) -> None:
    """The pictures of architecture.md."""
    write_pictures(Path(__file__).parent / "_generated" / "architecture")


def setup(app: Sphinx) -> None:
    """Hook the reference in."""
    app.connect("builder-inited", write_reference)
    app.connect("builder-inited", draw_architecture)
