"""What `instrument` was told last."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lane_router.routing.egress import Egress

egress: Egress | None = None
