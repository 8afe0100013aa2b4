"""Documents over environment over defaults, decrypted, resolved, validated: without any I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Generic, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsError

from microservice_core import ConfigDeleted, ConfigResult
from microservice_kit.errors import InvalidConfigError

from .data import Data, deep_merge, iter_leaves
from .documents import DocumentId, DocumentState
from .encryption import (
    ConfigEncryption,
    DecryptionError,
    find_encrypted_keys,
    is_encrypted_text,
)
from .environment import (
    ENVIRONMENT_DELIMITER,
    convert_settings_error,
    convert_validation_error,
    find_culprit,
)
from .parsing import parse
from .placeholders import PlaceholderError, Resolver
from .secrets import find_keys_with_secrets, find_secret_keys

__all__ = ("ConfigLayers", "ValidConfig")

ModelT_co = TypeVar("ModelT_co", bound=BaseModel, covariant=True)


class ValidConfig(NamedTuple, Generic[ModelT_co]):
    """A configuration that passed validation."""

    model: ModelT_co
    data: Mapping[str, object]
    """The merged data that the model was validated from."""


class ConfigLayers(Generic[ModelT_co]):
    """The layers of one configuration; only what validates as a whole is accepted.

    Attributes:
        problems: for each document whose newest state was refused, why.
        secret_keys: dotted keys whose values must not be shown. Keys are only added: a version that
            is kept may hold a secret under a key that is none any more.
    """

    def __init__(
        self,
        model: type[ModelT_co],
        document_ids: Iterable[DocumentId],
        *,
        env_prefix: str,
        encryption: ConfigEncryption,
    ) -> None:
        self._model = model
        self._document_ids = tuple(document_ids)
        self._environment = _create_environment_source(model, env_prefix)
        self._env_prefix = env_prefix
        self._encryption = encryption
        self._accepted: dict[DocumentId, Data] = {name: {} for name in self._document_ids}
        self._pending: dict[DocumentId, Data] = {}
        self.problems: dict[DocumentId, InvalidConfigError] = {}
        self.secret_keys = find_secret_keys(model) if model.model_fields else frozenset()

    @property
    def name(self) -> str:
        """The names of all documents, for errors about their sum."""
        return ", ".join(name.data_id for name in self._document_ids) or "environment"

    def load(self, states: Mapping[DocumentId, DocumentState]) -> ValidConfig[ModelT_co]:
        """Take the first state of every document.

        Raises:
            InvalidConfigError: one of them, or their sum, is invalid.
        """
        self._accepted = {name: self.parse(state) for name, state in states.items()}
        return self.validate()

    def update(self, document_id: DocumentId, state: DocumentState) -> ValidConfig[ModelT_co]:
        """Accept the newest state of one document, with pending ones that need it to be valid.

        Raises:
            InvalidConfigError: it is refused; if it can be parsed it stays pending until another
                document makes it valid.
        """
        self._pending.pop(document_id, None)
        try:
            return self._accept({**self._pending, document_id: self.parse(state)}, document_id)
        except InvalidConfigError as error:
            self.problems[document_id] = error
            raise

    def _accept(
        self, candidates: dict[DocumentId, Data], newest: DocumentId
    ) -> ValidConfig[ModelT_co]:
        # All candidates first: two documents may only be valid together. Then the newest alone: a
        # broken document must not hold up a good one.
        self._pending, accepted = dict(candidates), candidates
        try:
            config = self.validate({**self._accepted, **accepted})
        except InvalidConfigError:
            if len(candidates) == 1:
                raise
            accepted = {newest: candidates[newest]}
            config = self.validate({**self._accepted, **accepted})
        self._accepted |= accepted
        for document_id in accepted:
            del self._pending[document_id]
            self.problems.pop(document_id, None)
        return config

    def validate(self, parsed: Mapping[DocumentId, Data] | None = None) -> ValidConfig[ModelT_co]:
        """Merge and validate parsed documents; by default those accepted last.

        Raises:
            InvalidConfigError: they do not fit the model.
        """
        documents: Data = {}
        for document_id in self._document_ids:
            documents = deep_merge(documents, (parsed or self._accepted)[document_id])
        try:
            environment = self._environment()
        except SettingsError as error:
            raise convert_settings_error(error, self._env_prefix) from None
        merged = deep_merge(environment, documents) if documents else environment
        if not merged:  # nothing to decrypt, to replace or to keep secret
            return ValidConfig(self._build_model(merged, merged), merged)
        try:
            encrypted_keys = find_encrypted_keys(merged)
            merged = self._encryption.decrypt_all(merged)
            data = Resolver(merged).resolve_all()
        except (DecryptionError, PlaceholderError) as error:
            raise InvalidConfigError(self.name, str(error)) from error
        model = self._build_model(data, documents)
        self.secret_keys |= encrypted_keys
        self.secret_keys |= find_keys_with_secrets(merged, self.secret_keys)
        return ValidConfig(model, data)

    def _build_model(self, data: Data, documents: Data) -> ModelT_co:
        try:
            return self._model.model_validate(data)
        except ValidationError as error:
            culprit = find_culprit(
                error, self._env_prefix, environment=self._environment(), documents=documents
            )
            raise culprit or convert_validation_error(self.name, error) from None
        except Exception as error:  # from a validator of the application; its text may hold a value
            problem = f"a validator failed with {type(error).__name__}"
            raise InvalidConfigError(self.name, problem) from error

    def parse(self, state: DocumentState) -> Data:
        """Parse one document; its values may still be encrypted or hold placeholders.

        Raises:
            InvalidConfigError: it cannot be parsed or, encrypted as a whole, not decrypted.
        """
        if isinstance(state, ConfigDeleted):
            return {}
        data = parse(replace(state, content=self.decrypt_text(state)))
        if is_encrypted_text(state.content):
            # Whoever encrypted the whole of it meant all of its values.
            self.secret_keys |= frozenset(key for key, _ in iter_leaves(data))
        return data

    def decrypt_text(self, state: ConfigResult) -> str:
        """Return the content of a document, decrypted if the whole of it is encrypted.

        Raises:
            InvalidConfigError: it cannot be decrypted.
        """
        try:
            return self._encryption.decrypt(state.content)
        except DecryptionError as error:
            raise InvalidConfigError(state.data_id, str(error)) from error

    def resolve(self, data_id: str, parsed: Data, context: Mapping[str, object]) -> Data:
        """Decrypt one document and resolve its placeholders.

        Args:
            data_id: names the document in an error.
            context: where placeholders are looked up that the document itself does not define.

        Raises:
            InvalidConfigError: a value cannot be decrypted, or a placeholder not be resolved.
        """
        try:
            decrypted = self._encryption.decrypt_all(parsed)
            resolver = Resolver({**context, **decrypted})
            return {key: resolver.resolve(value) for key, value in decrypted.items()}
        except (DecryptionError, PlaceholderError) as error:
            raise InvalidConfigError(data_id, str(error)) from error


def _create_environment_source(model: type[BaseModel], prefix: str) -> EnvSettingsSource:
    # pydantic-settings reads the environment for settings classes only: this one has the model's
    # fields and is never instantiated.
    settings_class = type("Environment", (model, BaseSettings), {})
    return EnvSettingsSource(
        settings_class,
        env_prefix=prefix,
        env_nested_delimiter=ENVIRONMENT_DELIMITER,
        case_sensitive=False,
    )
