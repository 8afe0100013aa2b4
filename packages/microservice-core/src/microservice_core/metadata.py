"""Read-only labels of an instance, which can be pickled and shared without a copy."""

from __future__ import annotations

from typing import NoReturn

__all__ = ("Metadata",)


class Metadata(dict[str, str]):
    """A `dict` of labels that cannot be changed; reading it costs no more than reading a dict."""

    __slots__ = ()

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("metadata is read-only; build a new mapping instead")

    __setitem__ = _refuse
    __delitem__ = _refuse
    __ior__ = _refuse
    clear = _refuse
    pop = _refuse
    popitem = _refuse
    setdefault = _refuse
    update = _refuse

    def __reduce__(self) -> tuple[type[Metadata], tuple[dict[str, str]]]:
        return type(self), (dict(self),)
