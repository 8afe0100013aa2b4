import pytest
from hypothesis import HealthCheck, settings

from microservice_kit.testing.fixtures import config_documents, microservice, opened_app

__all__ = ("anyio_backend", "config_documents", "microservice", "opened_app")

# How long an example takes says more of the machine than of the code.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
