"""Errors of a configuration model: which variable of the environment is wrong, or which document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import ValidationError
from pydantic_settings import SettingsError

from microservice_kit.errors import InvalidConfigError

from .data import MISSING

__all__ = (
    "ENVIRONMENT_DELIMITER",
    "convert_settings_error",
    "convert_validation_error",
    "find_culprit",
)

ENVIRONMENT_DELIMITER = "__"
_NAME = "environment"
_ADVICE = "correct the variable and start again"


def convert_settings_error(error: SettingsError, prefix: str) -> InvalidConfigError:
    """Build our error for a variable that is not of the form that its field needs."""
    # The text names the field, never the value.
    return InvalidConfigError(_NAME, f"{error} (variables begin with {prefix})", _ADVICE)


def find_culprit(
    error: ValidationError,
    prefix: str,
    *,
    environment: Mapping[str, object],
    documents: Mapping[str, object],
) -> InvalidConfigError | None:
    """Return an error that names the variables, when no document has the wrong values.

    Args:
        prefix: with which the variables begin; `__` stands between levels.
        environment: the values of the environment.
        documents: the merged documents, without the environment.
    """
    problems = []
    for detail in error.errors(include_url=False, include_input=False, include_context=False):
        path = [str(part) for part in detail["loc"]]
        if _find(documents, path) is not MISSING or _find(environment, path) is MISSING:
            return None
        variable = f"{prefix}{ENVIRONMENT_DELIMITER.join(path)}".upper()
        problems.append(f"environment variable {variable}: {detail['msg']}")
    return InvalidConfigError(_NAME, "; ".join(problems), _ADVICE)


def convert_validation_error(document: str, error: ValidationError) -> InvalidConfigError:
    """Build our error from pydantic's, without the values: they may be secrets."""
    problems = [
        f"{'.'.join(str(part) for part in detail['loc']) or 'the document'}: {detail['msg']}"
        for detail in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    return InvalidConfigError(document, "; ".join(problems))


def _find(data: object, path: Sequence[str]) -> object:
    """Return the value at a path of field names; `MISSING` when there is none, or no name at all."""
    if not path:
        return MISSING
    for name in path:
        if not isinstance(data, Mapping) or name not in data:
            return MISSING
        data = data[name]
    return data
