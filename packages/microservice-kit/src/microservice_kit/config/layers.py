"""Documents over environment over defaults, decrypted, filled in, validated: without any I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource

from microservice_core import ConfigDeleted, ConfigResult
from microservice_kit.errors import InvalidConfigError

from .documents import DocumentId
from .encryption import ConfigEncryption, DecryptionError, encrypted_keys
from .parsing import Data, deep_merge, parse
from .placeholders import PlaceholderError, Resolver
from .versions import keys_with_secrets, secret_keys

__all__ = ("ConfigLayers", "without_values")

ModelT = TypeVar("ModelT", bound=BaseModel)
State = ConfigResult | ConfigDeleted


class ConfigLayers(Generic[ModelT]):
    """The layers of one configuration; only what validates as a whole gets in.

    Attributes:
        problems: what is wrong with the newest state of a document, where something is.
        secrets: dotted keys whose values are not to be shown.
    """

    def __init__(
        self,
        model: type[ModelT],
        documents: Iterable[DocumentId],
        *,
        env_prefix: str,
        encryption: ConfigEncryption,
    ) -> None:
        self._model = model
        self._documents = tuple(documents)
        self._environment = _environment_of(model, env_prefix)
        self._encryption = encryption
        self._good: dict[DocumentId, Data] = {where: {} for where in self._documents}
        self._pending: dict[DocumentId, Data] = {}
        self.problems: dict[DocumentId, InvalidConfigError] = {}
        self.secrets = secret_keys(model)

    @property
    def name(self) -> str:
        """What an error about all of it names."""
        return ", ".join(where.data_id for where in self._documents) or "environment"

    def start(self, states: Mapping[DocumentId, State]) -> tuple[ModelT, Data]:
        """Take these documents as they are.

        Raises:
            InvalidConfigError: one of them, or their sum, is invalid.
        """
        self._good = {where: self.parsed(state) for where, state in states.items()}
        return self.validated()

    def take(self, where: DocumentId, state: State) -> tuple[ModelT, Data]:
        """The newest state of one document, together with others that made no sense without it.

        Raises:
            InvalidConfigError: it does not go in; it waits for those it may belong to.
        """
        self._pending.pop(where, None)
        try:
            return self._believe({**self._pending, where: self.parsed(state)}, where)
        except InvalidConfigError as error:
            self.problems[where] = error
            raise

    def _believe(self, waiting: dict[DocumentId, Data], newest: DocumentId) -> tuple[ModelT, Data]:
        self._pending, taken = dict(waiting), waiting
        try:
            result = self.validated({**self._good, **taken})
        except InvalidConfigError:
            if len(waiting) == 1:
                raise
            taken = {newest: waiting[newest]}
            result = self.validated({**self._good, **taken})
        self._good |= taken
        for where in taken:
            del self._pending[where]
            self.problems.pop(where, None)
        return result

    def validated(self, parsed: Mapping[DocumentId, Data] | None = None) -> tuple[ModelT, Data]:
        """The model and the data it was made from; by default of the last good documents.

        Raises:
            InvalidConfigError: they do not fit.
        """
        merged = self._environment()
        for where in self._documents:
            merged = deep_merge(merged, (parsed or self._good)[where])
        try:
            hidden = encrypted_keys(merged)
            merged = self._encryption.decrypt_all(merged)
            data = Resolver(merged).resolve_all()
        except (DecryptionError, PlaceholderError) as error:
            raise InvalidConfigError(self.name, str(error)) from error
        model = self._modelled(data)
        self.secrets |= hidden
        self.secrets |= keys_with_secrets(merged, self.secrets)
        return model, data

    def _modelled(self, data: Data) -> ModelT:
        try:
            return self._model.model_validate(data)
        except ValidationError as error:
            raise without_values(self.name, error) from None
        except Exception as error:  # a validator is anybody's code; its message may show a value
            problem = f"a validator failed with {type(error).__name__}"
            raise InvalidConfigError(self.name, problem) from error

    def parsed(self, state: State) -> Data:
        """What one document says; its values may still be encrypted or hold placeholders.

        Raises:
            InvalidConfigError: it cannot be parsed or, encrypted as a whole, not decrypted.
        """
        if isinstance(state, ConfigDeleted):
            return {}
        return parse(replace(state, content=self.text(state)))

    def text(self, state: ConfigResult) -> str:
        """The content of a document, decrypted if the whole of it is encrypted.

        Raises:
            InvalidConfigError: it cannot be decrypted.
        """
        try:
            return self._encryption.decrypt(state.content)
        except DecryptionError as error:
            raise InvalidConfigError(state.data_id, str(error)) from error

    def resolved(self, name: str, parsed: Data, around: Mapping[str, object]) -> Data:
        """One document decrypted and filled in, with its own keys before those around it.

        Raises:
            InvalidConfigError: that cannot be done.
        """
        try:
            own = self._encryption.decrypt_all(parsed)
            resolver = Resolver({**around, **own})
            return {key: resolver.resolve(value) for key, value in own.items()}
        except (DecryptionError, PlaceholderError) as error:
            raise InvalidConfigError(name, str(error)) from error


def _environment_of(model: type[BaseModel], prefix: str) -> EnvSettingsSource:
    # pydantic-settings reads the environment for settings classes only; the fields are the model's.
    reader = type("Environment", (model, BaseSettings), {})
    return EnvSettingsSource(
        reader, env_prefix=prefix, env_nested_delimiter="__", case_sensitive=False
    )


def without_values(document: str, error: ValidationError) -> InvalidConfigError:
    """What pydantic found wrong, without the values: they may be secrets."""
    problems = [
        f"{'.'.join(str(part) for part in one['loc']) or 'the document'}: {one['msg']}"
        for one in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    return InvalidConfigError(document, "; ".join(problems))
