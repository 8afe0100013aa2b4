"""YAML, where the extra is installed."""

from __future__ import annotations

from microservice_core import MissingDependencyError

__all__ = ("read_yaml",)


def read_yaml(text: str) -> object:
    """The document.

    Raises:
        ValueError: it is no YAML.
        MissingDependencyError: the extra `yaml` is not installed.
    """
    try:
        import yaml
    except ImportError:
        raise MissingDependencyError("YAML rules", "lane-router[yaml]") from None
    try:
        document: object = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    return document
