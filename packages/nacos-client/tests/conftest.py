import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def no_nacos_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the developer's shell says about a Nacos server must not leak into the tests."""
    import os

    for name in list(os.environ):
        if name.startswith("NACOS_"):
            monkeypatch.delenv(name)
