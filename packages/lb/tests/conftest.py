from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says more of the machine than of the code.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

Fleet = Callable[..., "list[Host]"]


@dataclass(frozen=True)
class Host:
    """An endpoint with nothing but what the contract asks for."""

    instance_id: str
    weight: float = 1.0


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def fleet() -> Fleet:
    """`fleet(3)` makes hosts a, b, c; `fleet([5, 1])` gives them weights."""

    def make(hosts: int | Sequence[float]) -> list[Host]:
        weights = [1.0] * hosts if isinstance(hosts, int) else hosts
        return [Host(host_name(index), weight) for index, weight in enumerate(weights)]

    return make


def host_name(index: int) -> str:
    return chr(ord("a") + index) if index < 26 else f"h{index}"
