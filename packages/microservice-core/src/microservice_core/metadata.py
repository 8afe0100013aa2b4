"""Read-only labels that can be hashed over, pickled and handed out without a copy."""

from __future__ import annotations

from typing import NoReturn

__all__ = ("Metadata",)


class Metadata(dict[str, str]):
    """A `dict` of labels that refuses to change; reads cost what a dict's cost."""

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
