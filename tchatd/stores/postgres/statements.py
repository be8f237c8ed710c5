"""Owns large statements that are run again and again, taken apart once.

The driver finds the parameters of a statement each time it is run, unless it is short;
of one with eighty parameters that takes a millisecond. Here they are numbered when the
module is loaded, and the server gets the text as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

_PARAMETER: Final = re.compile(r"%\((\w+)\)[bs]")


class Numbered:
    """A statement whose parameters are named as the driver names them, `%(name)b`.

    text: with `$1`, `$2`, … instead. names: in that order; each once.
    """

    __slots__ = ("names", "text")

    def __init__(self, statement: str) -> None:
        numbers: dict[str, int] = {}

        def number(found: re.Match[str]) -> str:
            return f"${numbers.setdefault(found[1], len(numbers) + 1)}"

        self.text = _PARAMETER.sub(number, statement)
        self.names = tuple(numbers)
        assert "%" not in self.text, "a literal % is not supported"

    def values(self, parameters: Mapping[str, Any]) -> tuple[Any, ...]:
        """In the order of `names`. Raises: KeyError, for one that is missing."""
        return tuple([parameters[name] for name in self.names])
