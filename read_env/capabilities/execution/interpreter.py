"""A small interpreter for untrusted programs: a whitelist of syntax, functions and methods, with bounds.

Values are of Python's builtin types (and a few of ``collections``) or of two classes of this module,
:class:`Native` and :class:`Module`, whose attributes a program can't see: ``value.name`` is looked up in
tables, never with ``getattr`` on what isn't listed there. Every step costs, and so does every
container (:mod:`~read_env.capabilities.execution.metering`).

Classes, generators, ``with``, ``match``, ``async`` and most modules are outside the whitelist.
"""

from __future__ import annotations

import ast
import builtins as python
import inspect
import operator
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from types import NoneType
from typing import Any

from read_env.capabilities.execution.library import (
    EXCEPTIONS,
    METHODS,
    Module,
    Native,
    Refused,
    builtins,
    method,
    modules,
)
from read_env.capabilities.execution.metering import SIZED, Meter
from read_env.capabilities.execution.scopes import Scope, assigned, inside, targets

CALL_DEPTH = 500
_DICTS = frozenset({dict, Counter, OrderedDict, defaultdict})

_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Not: operator.not_,
    ast.Invert: operator.invert,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}
# Parts of other nodes, and nodes that have no value of their own.
_PARTS = (ast.arguments, ast.arg, ast.keyword, ast.alias, ast.expr_context, ast.boolop, ast.operator, ast.unaryop)
_ALLOWED = (*_PARTS, ast.cmpop, ast.comprehension, ast.ExceptHandler, ast.FormattedValue, ast.Module, ast.Expression)


class _Return:
    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


_BREAK, _CONTINUE = object(), object()


class Machine(Meter):
    """Runs one program, then evaluates expressions with what it defined."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = 0
        self.handling: list[Exception] = []
        self.builtins = builtins(self)
        self.modules = modules(self)
        self.scope = Scope(None)
        self.scope.names["__name__"] = "answer"

    def execute(self, source: str) -> None:
        """Run a program.

        Raises:
            Refused: if it leaves the whitelist or the bounds.
            Exception: what the program raises, or SyntaxError.
        """
        compile(source, "<answer>", "exec", dont_inherit=True)  # finds mistakes that the parser doesn't see
        tree = ast.parse(source)
        self.check(tree)
        self.block(tree.body, self.scope)

    def evaluate(self, source: str) -> Any:
        """The value of an expression; raises as :meth:`execute` does."""
        tree = ast.parse(source.strip(), mode="eval")
        self.check(tree)
        return self.value(tree.body, self.scope)

    def check(self, tree: ast.AST) -> None:
        """Refuse a tree with nodes or names outside the whitelist, before any of it runs."""
        for node in ast.walk(tree):
            line = f" (line {node.lineno})" if hasattr(node, "lineno") else ""
            kind = type(node).__name__
            if not (isinstance(node, _ALLOWED) or hasattr(self, f"do_{kind}") or hasattr(self, f"get_{kind}")):
                raise Refused(f"unsupported: {kind}{line}")
            if isinstance(node, ast.Constant) and type(node.value) is bytes:
                raise Refused(f"unsupported: bytes{line}")
            if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
                raise Refused(f"unsupported: attribute {node.attr}{line}")
            if isinstance(node, ast.Name) and node.id.startswith("__") and node.id != "__name__":
                raise Refused(f"unsupported: name {node.id}{line}")

    # --- statements: None, or how the block is left ---

    def block(self, body: list[ast.stmt], scope: Scope) -> Any:
        for node in body:
            self.spend()
            left = getattr(self, f"do_{type(node).__name__}")(node, scope)
            if left is not None:
                return left
        return None

    def do_Expr(self, node: ast.Expr, scope: Scope) -> None:
        self.value(node.value, scope)

    def do_Pass(self, node: ast.Pass, scope: Scope) -> None:
        pass

    def do_Break(self, node: ast.Break, scope: Scope) -> object:
        return _BREAK

    def do_Continue(self, node: ast.Continue, scope: Scope) -> object:
        return _CONTINUE

    def do_Return(self, node: ast.Return, scope: Scope) -> _Return:
        return _Return(None if node.value is None else self.value(node.value, scope))

    def do_Assign(self, node: ast.Assign, scope: Scope) -> None:
        value = self.value(node.value, scope)
        for target in node.targets:
            self.assign(target, value, scope)

    def do_AnnAssign(self, node: ast.AnnAssign, scope: Scope) -> None:
        if node.value is not None:
            self.assign(node.target, self.value(node.value, scope), scope)

    def do_AugAssign(self, node: ast.AugAssign, scope: Scope) -> None:
        target = node.target
        if isinstance(target, ast.Name):
            left = self.load(target.id, scope)
            scope.store(target.id, self.binary(type(node.op), left, self.value(node.value, scope), in_place=True))
        elif isinstance(target, ast.Subscript):
            container, key = self.value(target.value, scope), self.value(target.slice, scope)
            left = container[key]
            self.put(container, key, self.binary(type(node.op), left, self.value(node.value, scope), in_place=True))
        else:
            raise Refused("unsupported: assignment to an attribute")

    def do_Delete(self, node: ast.Delete, scope: Scope) -> None:
        for target in node.targets:
            if isinstance(target, ast.Name):
                self.load(target.id, scope)
                del scope.elsewhere.get(target.id, scope).names[target.id]
            elif isinstance(target, ast.Subscript):
                container = self.value(target.value, scope)
                del container[self.value(target.slice, scope)]
            else:
                raise Refused("unsupported: del of this kind")

    def do_If(self, node: ast.If, scope: Scope) -> Any:
        return self.block(node.body if self.value(node.test, scope) else node.orelse, scope)

    def do_While(self, node: ast.While, scope: Scope) -> Any:
        while self.value(node.test, scope):
            self.spend()
            left = self.block(node.body, scope)
            if left is _BREAK:
                return None
            if isinstance(left, _Return):
                return left
        return self.block(node.orelse, scope)

    def do_For(self, node: ast.For, scope: Scope) -> Any:
        for item in self.walk(self.value(node.iter, scope)):
            self.assign(node.target, item, scope)
            left = self.block(node.body, scope)
            if left is _BREAK:
                return None
            if isinstance(left, _Return):
                return left
        return self.block(node.orelse, scope)

    def do_Assert(self, node: ast.Assert, scope: Scope) -> None:
        if not self.value(node.test, scope):
            raise AssertionError(*([] if node.msg is None else [self.text(self.value(node.msg, scope))]))

    def do_Raise(self, node: ast.Raise, scope: Scope) -> None:
        if node.exc is None:
            raise self.handling[-1] if self.handling else RuntimeError("No active exception to reraise")
        error = self.value(node.exc, scope)
        if type(error) is Native and error.kind in EXCEPTIONS:
            error = error()
        if type(error) not in EXCEPTIONS:
            raise TypeError("exceptions must derive from BaseException")
        raise error

    def do_Try(self, node: ast.Try, scope: Scope) -> Any:
        try:
            left = self.protected(node, scope)
        finally:
            if self.block(node.finalbody, scope) is not None:
                raise Refused("unsupported: leaving a finally block")
        return left

    def protected(self, node: ast.Try, scope: Scope) -> Any:
        """A try statement without its finally block."""
        try:
            left = self.block(node.body, scope)
        except Exception as error:
            for handler in node.handlers:
                if handler.type is None or isinstance(error, self.kinds(self.value(handler.type, scope))):
                    return self.handle(handler, error, scope)
            raise
        return self.block(node.orelse, scope) if left is None else left

    def handle(self, handler: ast.ExceptHandler, error: Exception, scope: Scope) -> Any:
        if handler.name:
            scope.store(handler.name, error)
        self.handling.append(error)
        try:
            return self.block(handler.body, scope)
        finally:
            self.handling.pop()
            if handler.name:
                scope.elsewhere.get(handler.name, scope).names.pop(handler.name, None)

    def kinds(self, value: Any) -> tuple[type, ...]:
        """The Python classes behind a class or a tuple of classes."""
        if type(value) is tuple:
            return tuple(kind for item in value for kind in self.kinds(item))
        if type(value) is Native and value.kind is not None:
            return (value.kind,)
        if value is None:
            return (NoneType,)
        raise TypeError("a class or a tuple of classes is needed")

    def do_Import(self, node: ast.Import, scope: Scope) -> None:
        for alias in node.names:
            if "." in alias.name:
                raise Refused(f"unsupported: import of {alias.name}")
            scope.store(alias.asname or alias.name, self.imported(alias.name))

    def do_ImportFrom(self, node: ast.ImportFrom, scope: Scope) -> None:
        module = self.imported("?" if node.level else str(node.module))
        for alias in node.names:
            if alias.name not in module.members and module.name not in ("typing", "__future__"):
                raise Refused(f"unsupported: import of {alias.name} from {module.name}")
            scope.store(alias.asname or alias.name, module.members.get(alias.name))

    def imported(self, name: str) -> Module:
        if name not in self.modules:
            raise Refused(f"unsupported: import of {name}")
        return self.modules[name]

    def do_Global(self, node: ast.Global, scope: Scope) -> None:
        for name in node.names:
            if scope.parent is not None:
                scope.elsewhere[name] = scope.module()

    def do_Nonlocal(self, node: ast.Nonlocal, scope: Scope) -> None:
        for name in node.names:
            outer = scope.parent
            while outer is not None and name not in outer.own:
                outer = outer.parent
            if outer is not None:
                scope.elsewhere[name] = outer.elsewhere.get(name, outer)

    def do_FunctionDef(self, node: ast.FunctionDef, scope: Scope) -> None:
        function: Any = self.function(node.name, node.args, node.body, scope)
        for decorator in reversed(node.decorator_list):
            function = self.call(self.value(decorator, scope), [function], {})
        scope.store(node.name, function)

    # --- functions ---

    def function(self, name: str, arguments: ast.arguments, body: list[ast.stmt], scope: Scope) -> Native:
        """A function of the program."""
        signature = self.signature(arguments, scope)
        declared = {
            name for node in inside(body) if isinstance(node, (ast.Global, ast.Nonlocal)) for name in node.names
        }
        own = frozenset((set(signature.parameters) | assigned(body)) - declared)

        def run(*given: Any, **named: Any) -> Any:
            self.spend(5)
            bound = signature.bind(*given, **named)
            bound.apply_defaults()
            inner = Scope(scope, own)
            inner.names.update(bound.arguments)
            if self.depth >= CALL_DEPTH:
                raise RecursionError("maximum recursion depth exceeded")
            self.depth += 1
            try:
                left = self.block(body, inner)
            finally:
                self.depth -= 1
            return left.value if isinstance(left, _Return) else None

        return Native(self, name, run, metered=False)

    def signature(self, arguments: ast.arguments, scope: Scope) -> inspect.Signature:
        positional = [*arguments.posonlyargs, *arguments.args]
        defaults: list[Any] = [inspect.Parameter.empty] * (len(positional) - len(arguments.defaults))
        defaults += [self.value(node, scope) for node in arguments.defaults]
        parameters = []
        for place, (argument, default) in enumerate(zip(positional, defaults, strict=True)):
            only = place < len(arguments.posonlyargs)
            kind = inspect.Parameter.POSITIONAL_ONLY if only else inspect.Parameter.POSITIONAL_OR_KEYWORD
            parameters.append(inspect.Parameter(argument.arg, kind, default=default))
        if arguments.vararg:
            parameters.append(inspect.Parameter(arguments.vararg.arg, inspect.Parameter.VAR_POSITIONAL))
        for argument, node in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
            default = inspect.Parameter.empty if node is None else self.value(node, scope)
            parameters.append(inspect.Parameter(argument.arg, inspect.Parameter.KEYWORD_ONLY, default=default))
        if arguments.kwarg:
            parameters.append(inspect.Parameter(arguments.kwarg.arg, inspect.Parameter.VAR_KEYWORD))
        return inspect.Signature(parameters)

    def call(self, function: Any, given: list[Any], named: dict[str, Any]) -> Any:
        if type(function) is not Native:
            raise TypeError("the value is not callable")
        return function(*given, **named)

    # --- assignment ---

    def assign(self, target: ast.expr, value: Any, scope: Scope) -> None:
        if isinstance(target, ast.Name):
            scope.store(target.id, value)
        elif isinstance(target, ast.Subscript):
            self.put(self.value(target.value, scope), self.value(target.slice, scope), value)
        elif isinstance(target, (ast.Tuple, ast.List)):
            self.unpack(target.elts, self.listed(value), scope)
        else:
            raise Refused("unsupported: assignment to an attribute")

    def unpack(self, targets: list[ast.expr], values: list[Any], scope: Scope) -> None:
        stars = [place for place, target in enumerate(targets) if isinstance(target, ast.Starred)]
        if len(values) < len(targets) - len(stars) or (not stars and len(values) > len(targets)):
            raise ValueError(f"can't unpack {len(values)} values into {len(targets)} targets")
        if stars:
            (star,) = stars
            after = len(targets) - star - 1
            middle = values[star : len(values) - after]
            values = [*values[:star], middle, *values[len(values) - after :]]
        for target, value in zip(targets, values, strict=True):
            self.assign(target.value if isinstance(target, ast.Starred) else target, value, scope)

    def put(self, container: Any, key: Any, value: Any) -> None:
        """``container[key] = value``."""
        if type(key) is slice:
            value = self.listed(value)
            self.room(len(container) + len(value))
        container[key] = value

    # --- expressions ---

    def value(self, node: ast.expr, scope: Scope) -> Any:
        self.spend()
        return getattr(self, f"get_{type(node).__name__}")(node, scope)

    def load(self, name: str, scope: Scope | None) -> Any:
        """The value of a name, by Python's rules of scope."""
        while scope is not None:
            scope = scope.elsewhere.get(name, scope)
            if name in scope.names:
                return scope.names[name]
            if name in scope.own:
                raise UnboundLocalError(f"local variable {name!r} has no value yet")
            scope = scope.parent
        if name in self.builtins:
            return self.builtins[name]
        if hasattr(python, name):
            raise Refused(f"unsupported: {name}")
        raise NameError(f"name {name!r} is not defined")

    def get_Name(self, node: ast.Name, scope: Scope) -> Any:
        return self.load(node.id, scope)

    def get_Constant(self, node: ast.Constant, scope: Scope) -> Any:
        return node.value

    def get_BinOp(self, node: ast.BinOp, scope: Scope) -> Any:
        return self.binary(type(node.op), self.value(node.left, scope), self.value(node.right, scope))

    def get_UnaryOp(self, node: ast.UnaryOp, scope: Scope) -> Any:
        return _UNARY[type(node.op)](self.value(node.operand, scope))

    def get_BoolOp(self, node: ast.BoolOp, scope: Scope) -> Any:
        value = None
        for part in node.values:
            value = self.value(part, scope)
            if bool(value) is isinstance(node.op, ast.Or):
                break
        return value

    def get_Compare(self, node: ast.Compare, scope: Scope) -> Any:
        left = self.value(node.left, scope)
        found: Any = True
        for kind, part in zip(node.ops, node.comparators, strict=True):
            right = self.value(part, scope)
            if isinstance(kind, (ast.In, ast.NotIn)):
                # A range answers at once for numbers; anything else walks.
                plain = type(right) is range and type(left) in (int, bool)
                found = (left in (right if plain else self.metered(right))) is isinstance(kind, ast.In)
            else:
                found = _COMPARE[type(kind)](left, right)
            if not found:
                break
            left = right
        return found

    def get_IfExp(self, node: ast.IfExp, scope: Scope) -> Any:
        return self.value(node.body if self.value(node.test, scope) else node.orelse, scope)

    def get_NamedExpr(self, node: ast.NamedExpr, scope: Scope) -> Any:
        value = self.value(node.value, scope)
        scope.function().store(node.target.id, value)
        return value

    def get_Lambda(self, node: ast.Lambda, scope: Scope) -> Native:
        return self.function("lambda", node.args, [ast.Return(node.body)], scope)

    def get_Attribute(self, node: ast.Attribute, scope: Scope) -> Any:
        value = self.value(node.value, scope)
        kind, name = type(value), node.attr
        if (kind is Module or kind is Native) and name in value.members:
            return value.members[name]
        # `str.upper` looks among the methods of what `str` stands for, `text.upper` among those of its class.
        methods = METHODS.get(value.kind if kind is Native else kind, {})
        if name in methods:
            return method(self, name, methods[name], None if kind is Native else value)
        raise Refused(f"unsupported: attribute {name} (line {node.lineno})")

    def get_Call(self, node: ast.Call, scope: Scope) -> Any:
        function = self.value(node.func, scope)
        given = self.items(node.args, scope)
        named: dict[str, Any] = {}
        for keyword in node.keywords:
            value = self.value(keyword.value, scope)
            if keyword.arg is None and type(value) not in _DICTS:
                raise TypeError("a dict is needed after **")
            for name, item in value.items() if keyword.arg is None else [(keyword.arg, value)]:
                if type(name) is not str or name in named:
                    raise TypeError("keyword arguments must be different names")
                named[name] = item
        return self.call(function, given, named)

    def get_Subscript(self, node: ast.Subscript, scope: Scope) -> Any:
        container, key = self.value(node.value, scope), self.value(node.slice, scope)
        found = container[key]
        if type(key) is slice and type(found) in SIZED:
            self.spend(len(found) // 8)
        return found

    def get_Slice(self, node: ast.Slice, scope: Scope) -> slice:
        parts = (node.lower, node.upper, node.step)
        return slice(*(None if part is None else self.value(part, scope) for part in parts))

    def items(self, nodes: list[ast.expr], scope: Scope) -> list[Any]:
        values: list[Any] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                values.extend(self.listed(self.value(node.value, scope)))
            else:
                values.append(self.value(node, scope))
        return values

    def get_Starred(self, node: ast.Starred, scope: Scope) -> Any:
        raise Refused("unsupported: * here")

    def get_List(self, node: ast.List, scope: Scope) -> list[Any]:
        return self.items(node.elts, scope)

    def get_Tuple(self, node: ast.Tuple, scope: Scope) -> tuple[Any, ...]:
        return tuple(self.items(node.elts, scope))

    def get_Set(self, node: ast.Set, scope: Scope) -> set[Any]:
        return set(self.items(node.elts, scope))

    def get_Dict(self, node: ast.Dict, scope: Scope) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        for key, part in zip(node.keys, node.values, strict=True):
            value = self.value(part, scope) if key is None else None
            if key is None:
                made.update(self.metered(value))
            else:
                name = self.value(key, scope)
                made[name] = self.value(part, scope)
        return made

    def get_JoinedStr(self, node: ast.JoinedStr, scope: Scope) -> str:
        pieces = []
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                value = self.value(part.value, scope)
                if part.conversion == ord("a"):
                    raise Refused("unsupported: !a")
                if part.conversion != -1:
                    value = self.text(value, part.conversion == ord("r"))
                form = "" if part.format_spec is None else self.value(part.format_spec, scope)
                pieces.append(self.formatted(value, form))
            else:
                pieces.append(self.value(part, scope))
        self.room(sum(map(len, pieces)))
        return "".join(pieces)

    def comprehension(self, parts: list[ast.expr], clauses: list[ast.comprehension], scope: Scope) -> Iterator[Any]:
        """The values of ``parts``, as tuples, for every combination that the clauses let through.

        The first iterable is evaluated at once and outside, as Python does.
        """
        own = frozenset(targets(clause.target for clause in clauses))
        first = self.value(clauses[0].iter, scope)
        inner = Scope(scope, own, comprehension=True)

        def loop(level: int) -> Iterator[Any]:
            if level == len(clauses):
                yield tuple(self.value(part, inner) for part in parts)
                return
            clause = clauses[level]
            if clause.is_async:
                raise Refused("unsupported: async")
            for item in self.walk(self.value(clause.iter, inner) if level else first):
                self.assign(clause.target, item, inner)
                if all(self.value(test, inner) for test in clause.ifs):
                    yield from loop(level + 1)

        return loop(0)

    def get_ListComp(self, node: ast.ListComp, scope: Scope) -> list[Any]:
        return [value for (value,) in self.comprehension([node.elt], node.generators, scope)]

    def get_SetComp(self, node: ast.SetComp, scope: Scope) -> set[Any]:
        return {value for (value,) in self.comprehension([node.elt], node.generators, scope)}

    def get_DictComp(self, node: ast.DictComp, scope: Scope) -> dict[Any, Any]:
        return dict(self.comprehension([node.key, node.value], node.generators, scope))

    def get_GeneratorExp(self, node: ast.GeneratorExp, scope: Scope) -> Iterator[Any]:
        return (value for (value,) in self.comprehension([node.elt], node.generators, scope))
