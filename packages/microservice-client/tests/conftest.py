from collections.abc import Mapping, Sequence

import pytest
from hypothesis import HealthCheck, settings
from opentelemetry import metrics
from opentelemetry.util.types import AttributeValue

from microservice_client.testing.fixtures import fake_mesh, service_client

__all__ = ("anyio_backend", "fake_mesh", "meters", "service_client")

# How long an example takes says more of the machine than of the code.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


class CountingMeter(metrics.NoOpMeter):
    """Keeps every measurement."""

    def __init__(self) -> None:
        super().__init__("counting")
        self.gauges: dict[str, Sequence[metrics.CallbackT]] = {}
        self.told: list[tuple[str, float, Mapping[str, AttributeValue]]] = []

    def create_histogram(self, name: str, *args: object, **kwargs: object) -> metrics.Histogram:
        return _Instrument(name, self)  # type: ignore[return-value]

    def create_counter(self, name: str, *args: object, **kwargs: object) -> metrics.Counter:
        return _Instrument(name, self)  # type: ignore[return-value]

    def create_up_down_counter(
        self, name: str, *args: object, **kwargs: object
    ) -> metrics.UpDownCounter:
        return _Instrument(name, self)  # type: ignore[return-value]

    def create_observable_gauge(  # type: ignore[override]
        self, name: str, callbacks: Sequence[metrics.CallbackT], **kwargs: object
    ) -> metrics.ObservableGauge:
        self.gauges = {**self.gauges, name: callbacks}
        return super().create_observable_gauge(name)

    def observed(self, name: str) -> list[tuple[float, Mapping[str, AttributeValue]]]:
        """What a gauge shows now."""
        return [
            (one.value, one.attributes or {})
            for callback in self.gauges[name]
            if callable(callback)
            for one in callback(metrics.CallbackOptions())
        ]

    def of(self, name: str) -> Sequence[Mapping[str, AttributeValue]]:
        return [attributes for told, _, attributes in self.told if told == name]


class _Instrument:
    def __init__(self, name: str, meter: CountingMeter) -> None:
        self._name = name
        self._meter = meter

    def add(self, amount: float, attributes: Mapping[str, AttributeValue]) -> None:
        self._meter.told.append((self._name, amount, attributes))

    record = add


class Meters(metrics.MeterProvider):
    def __init__(self) -> None:
        self.meter = CountingMeter()

    def get_meter(self, *args: object, **kwargs: object) -> metrics.Meter:
        return self.meter


@pytest.fixture
def meters() -> Meters:
    """A meter provider that keeps every measurement."""
    return Meters()
