"""The application's configuration: documents and environment merged into one validated model."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource

from microservice_core import (
    ConfigCenter,
    ConfigDeleted,
    ConfigNotFoundError,
    ConfigResult,
    Unsubscribe,
)
from microservice_core.delivery import Watchers

from .documents import Data, deep_merge, parse
from .errors import InvalidConfigError

__all__ = ("ConfigService",)

logger = logging.getLogger(__name__)

ModelT = TypeVar("ModelT", bound=BaseModel)


class ConfigService(Generic[ModelT]):
    """Keeps `current` true: configuration center over environment over the model's defaults.

    A document that cannot be parsed or does not fit the model changes nothing: `current` stays
    what it was, `problem` says why, and the next good version ends it. A document that is
    deleted counts as empty.

    Attributes:
        current: the validated model; replaced as a whole, so that one read is consistent.
        problem: what is wrong with the newest documents, or None.
    """

    def __init__(
        self,
        model: type[ModelT],
        center: ConfigCenter | None = None,
        documents: Sequence[str] = (),
        *,
        group_name: str = "",
        namespace_id: str = "",
        env_prefix: str = "APP_",
    ) -> None:
        self._model = model
        self._center = center
        self._documents = tuple(documents)
        self._where = (group_name, namespace_id)
        self._environment = _environment_of(model, env_prefix)
        self._parsed: dict[str, Data] = {}
        self._seen: dict[str, ConfigResult | ConfigDeleted] = {}
        self._stops: list[Unsubscribe] = []
        self._watchers: Watchers[str, ModelT] = Watchers()
        self.problem: InvalidConfigError | None = None
        self.current: ModelT

    async def open(self) -> None:
        """Read every document, then follow their changes.

        Raises:
            InvalidConfigError: a document or their sum is invalid; there is no last good one yet.
            ConfigCenterError: the configuration center cannot be read.
        """
        for data_id in self._documents:
            state = await self._read(data_id)
            self._seen[data_id] = state
            self._parsed[data_id] = _data_of(state)
        self.current = self._validated(self._parsed)
        if self._center is not None:
            for data_id in self._documents:
                listener = partial(self._changed, data_id)
                self._stops.append(self._center.watch_config(data_id, listener, *self._where))

    def on_change(self, listener: Callable[[ModelT], Awaitable[None] | None]) -> Unsubscribe:
        """Call the listener with each new `current`; the returned callable ends it."""
        return self._watchers.add("config", listener)[1]

    async def close(self) -> None:
        """Stop following; `current` stays readable."""
        for stop in self._stops:
            stop()
        self._stops.clear()
        await self._watchers.aclose()

    async def _read(self, data_id: str) -> ConfigResult | ConfigDeleted:
        if self._center is None:
            return ConfigDeleted(data_id, *self._where)
        try:
            return await self._center.get_config(data_id, *self._where)
        except ConfigNotFoundError:
            logger.warning("configuration %r does not exist yet; defaults are in force", data_id)
            return ConfigDeleted(data_id, *self._where)

    def _changed(self, data_id: str, state: ConfigResult | ConfigDeleted) -> None:
        if state == self._seen[data_id]:
            return
        self._seen[data_id] = state
        try:
            parsed = {**self._parsed, data_id: _data_of(state)}
            model = self._validated(parsed)
        except InvalidConfigError as error:
            self.problem = error
            logger.error("%s; the last good version stays in force", error)  # noqa: TRY400
            return
        self.problem = None
        self._parsed = parsed
        if model != self.current:
            self.current = model
            logger.info("configuration %r changed", data_id)
            self._watchers.offer("config", model)

    def _validated(self, parsed: Mapping[str, Data]) -> ModelT:
        merged = self._environment()
        for data_id in self._documents:
            merged = deep_merge(merged, parsed[data_id])
        try:
            return self._model.model_validate(merged)
        except ValidationError as error:
            raise _without_values(", ".join(self._documents) or "environment", error) from None


def _environment_of(model: type[BaseModel], prefix: str) -> EnvSettingsSource:
    # pydantic-settings reads the environment for settings classes only; the fields are the model's.
    reader = type("Environment", (model, BaseSettings), {})
    return EnvSettingsSource(
        reader, env_prefix=prefix, env_nested_delimiter="__", case_sensitive=False
    )


def _data_of(state: ConfigResult | ConfigDeleted) -> Data:
    return {} if isinstance(state, ConfigDeleted) else parse(state)


def _without_values(document: str, error: ValidationError) -> InvalidConfigError:
    problems = [
        f"{'.'.join(str(part) for part in one['loc']) or 'the document'}: {one['msg']}"
        for one in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    return InvalidConfigError(document, "; ".join(problems))
