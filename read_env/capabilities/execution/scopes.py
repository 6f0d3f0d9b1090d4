"""Names in the small interpreter: where a program's names live, and which of them are local."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from typing import Any


class Scope:
    """Names of a function call, a comprehension or the module."""

    __slots__ = ("comprehension", "elsewhere", "names", "own", "parent")

    def __init__(self, parent: Scope | None, own: frozenset[str] = frozenset(), comprehension: bool = False) -> None:
        self.names: dict[str, Any] = {}
        self.parent = parent
        self.own = own
        self.elsewhere: dict[str, Scope] = {}
        self.comprehension = comprehension

    def function(self) -> Scope:
        """The scope that an assignment expression writes to."""
        scope = self
        while scope.comprehension and scope.parent is not None:
            scope = scope.parent
        return scope

    def module(self) -> Scope:
        return self if self.parent is None else self.parent.module()

    def store(self, name: str, value: Any) -> None:
        self.elsewhere.get(name, self).names[name] = value


def inside(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """All nodes of a function's body, without those of functions inside it."""
    waiting = list(body)
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, (ast.FunctionDef, ast.Lambda)):
            continue
        waiting.extend(ast.iter_child_nodes(node))


def targets(nodes: Iterable[ast.AST]) -> set[str]:
    """Names that assignment targets give a value."""
    return {part.id for node in nodes for part in ast.walk(node) if isinstance(part, ast.Name) and _binds(part)}


def _binds(node: ast.Name) -> bool:
    return isinstance(node.ctx, (ast.Store, ast.Del))


def assigned(body: list[ast.stmt]) -> set[str]:
    """Names that a function's body gives a value: its local names, parameters aside."""
    names: set[str] = set()
    private = set()
    for node in inside(body):
        if isinstance(node, ast.comprehension):
            private |= {id(part) for part in ast.walk(node.target)}
        elif isinstance(node, (ast.FunctionDef, ast.ExceptHandler)):
            names |= {node.name} if node.name else set()
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {alias.asname or alias.name for alias in node.names}
    names |= {
        node.id for node in inside(body) if isinstance(node, ast.Name) and _binds(node) and id(node) not in private
    }
    return names
