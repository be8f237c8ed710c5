"""Owns which operation a path means; refuses to run any.

Built once. Paths without parameters, the most asked, are one look-up in a dict; the
others walk a tree of segments in which a literal segment wins over a parameter.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar
from urllib.parse import unquote

from tchatd.edge.problems import MethodNotAllowed, NoSuchRoute
from tchatd.kernel.errors import Invalid
from tchatd.kernel.routing import PATH_PARAMETER, Operation

ALIAS = "/v1"
PATH_SEGMENTS_MAX = 16


class Routable(Protocol):
    @property
    def operation(self) -> Operation: ...


R = TypeVar("R", bound=Routable)


class _Methods(Generic[R]):
    """The operations of one path pattern by method. allow: for the header."""

    __slots__ = ("allow", "by_method")

    def __init__(self) -> None:
        self.by_method: dict[str, R] = {}
        self.allow = "OPTIONS"

    def add(self, route: R) -> None:
        verb = route.operation.verb
        assert verb is not None
        assert verb not in self.by_method, f"{route.operation.path} is declared twice"
        self.by_method[verb] = route
        if verb == "GET":
            self.by_method["HEAD"] = route
        self.allow = ", ".join(sorted([*self.by_method, "OPTIONS"]))


class _Node(Generic[R]):
    __slots__ = ("literals", "methods", "parameter")

    def __init__(self) -> None:
        self.literals: dict[str, _Node[R]] = {}
        self.parameter: _Node[R] | None = None
        self.methods: _Methods[R] | None = None


class RouteTable(Generic[R]):
    """Finds the route of (method, path), at the path given and under `/v1`."""

    def __init__(self, routes: Iterable[R]) -> None:
        self._exact: dict[str, _Methods[R]] = {}
        self._root: _Node[R] = _Node()
        for route in routes:
            path = route.operation.path
            if path is None:
                continue
            assert path.startswith("/")
            assert len(path.split("/")) < PATH_SEGMENTS_MAX
            for full in (path, ALIAS + path):
                self._methods(full).add(route)

    def find(self, method: str, path: str) -> tuple[R, tuple[str, ...]]:
        """The route, and the values of its path's parameters in order, decoded.

        Raises:
            NoSuchRoute: nothing is declared at this path.
            MethodNotAllowed: something is, for other methods.
            Invalid: a parameter is not UTF-8 behind its percent signs.
        """
        methods = self._exact.get(path)
        values: tuple[str, ...] = ()
        if methods is None:
            methods, values = self._walk(path)
        route = methods.by_method.get(method)
        if route is None:
            raise MethodNotAllowed(methods.allow)
        return route, values

    def allowed(self, path: str) -> str:
        """The methods of a path, for `Allow`. Raises NoSuchRoute."""
        methods = self._exact.get(path)
        return (self._walk(path)[0] if methods is None else methods).allow

    def has(self, path: str) -> bool:
        try:
            self.allowed(path)
        except (NoSuchRoute, Invalid):
            return False
        return True

    def _methods(self, path: str) -> _Methods[R]:
        if not PATH_PARAMETER.search(path):
            return self._exact.setdefault(path, _Methods())
        node = self._root
        for segment in path.split("/")[1:]:
            if PATH_PARAMETER.fullmatch(segment):
                if node.parameter is None:
                    node.parameter = _Node()
                node = node.parameter
            else:
                assert "{" not in segment, "a parameter is a whole segment"
                node = node.literals.setdefault(segment, _Node())
        if node.methods is None:
            node.methods = _Methods()
        return node.methods

    def _walk(self, path: str) -> tuple[_Methods[R], tuple[str, ...]]:
        segments = path.split("/", PATH_SEGMENTS_MAX)
        if segments[0] or len(segments) > PATH_SEGMENTS_MAX:
            raise NoSuchRoute
        node, values = self._root, []
        for segment in segments[1:]:
            literal = node.literals.get(segment)
            if literal is not None:
                node = literal
            elif node.parameter is not None and segment:
                node = node.parameter
                values.append(_decoded(segment))
            else:
                raise NoSuchRoute
        if node.methods is None:
            raise NoSuchRoute
        return node.methods, tuple(values)


def _decoded(segment: str) -> str:
    if "%" not in segment:
        return segment
    try:
        return unquote(segment, errors="strict")
    except UnicodeDecodeError:
        raise Invalid("The path is not UTF-8.") from None
