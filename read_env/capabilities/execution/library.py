"""What a program finds in the small interpreter: functions, methods and modules, with bounds.

The tables are whitelists; what a function makes is bounded by its arguments' sizes or checked here.
"""

from __future__ import annotations

import ast
import bisect
import functools
import heapq
import itertools
import math
import operator
import statistics
import string
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from read_env.capabilities.execution.interpreter import Machine

_DIGITS = 4300  # of a text that becomes an integer

EXCEPTIONS: frozenset[type[Exception]] = frozenset(
    {
        ArithmeticError,
        AssertionError,
        AttributeError,
        Exception,
        IndexError,
        KeyError,
        LookupError,
        NameError,
        NotImplementedError,
        OverflowError,
        RecursionError,
        RuntimeError,
        StopIteration,
        TypeError,
        UnboundLocalError,
        ValueError,
        ZeroDivisionError,
    }
)


class Refused(BaseException):
    """The program left the whitelist or the bounds. Not an Exception: the program can't catch it."""

    refused = True


class Module:
    """A module as a program sees it."""

    __slots__ = ("members", "name")

    def __init__(self, name: str, members: Mapping[str, Any]) -> None:
        self.name = name
        self.members = members


class Native:
    """A function as a program sees it: of the library, a method, a class, or the program's own.

    Python's own functions may call it too, for example ``sorted`` with ``key=``.

    Attributes:
        kind: the Python class that it stands for, if any.
        members: functions that are attributes of it.
    """

    __slots__ = ("function", "kind", "machine", "members", "metered", "name")

    def __init__(
        self,
        machine: Machine,
        name: str,
        function: Callable[..., Any],
        *,
        kind: type | None = None,
        metered: bool = True,
    ) -> None:
        self.machine = machine
        self.name = name
        self.kind = kind
        self.metered = metered
        self.members: dict[str, Native] = {}
        self.function = function

    def __call__(self, *given: Any, **named: Any) -> Any:
        machine = self.machine
        machine.spend()
        if not self.metered:
            return self.function(*given, **named)
        given = tuple(machine.metered(value) for value in given)
        named = {name: machine.metered(value) for name, value in named.items()}
        result = self.function(*given, **named)
        machine.charge(result)
        return result

    def __deepcopy__(self, memo: dict[int, Any]) -> Native:
        return self


# --- methods -----------------------------------------------------------------


def method(machine: Machine, name: str, function: Callable[..., Any], receiver: Any) -> Native:
    """A method as a program gets it, bound to ``receiver`` unless that is None."""
    if function in _WITH_MACHINE:
        function = functools.partial(function, machine)
    if receiver is not None:
        function = functools.partial(function, receiver)
    return Native(machine, name, function, metered=name not in _KEEPING)


def _replace(machine: Machine, text: str, old: str, new: str, count: int = -1) -> str:
    found = str.count(text, old)
    machine.room(len(text) + (found if count < 0 else min(count, found)) * len(new))
    return str.replace(text, old, new, count)


def _join(machine: Machine, text: str, parts: Iterable[str]) -> str:
    pieces = list(parts)
    if any(type(piece) is not str for piece in pieces):
        raise TypeError("join needs strings")
    machine.room(sum(map(len, pieces)) + len(text) * len(pieces))
    return str.join(text, pieces)


def _center(machine: Machine, text: str, width: int, fill: str = " ") -> str:
    machine.room(width)
    return str.center(text, width, fill)


def _ljust(machine: Machine, text: str, width: int, fill: str = " ") -> str:
    machine.room(width)
    return str.ljust(text, width, fill)


def _rjust(machine: Machine, text: str, width: int, fill: str = " ") -> str:
    machine.room(width)
    return str.rjust(text, width, fill)


def _zfill(machine: Machine, text: str, width: int) -> str:
    machine.room(width)
    return str.zfill(text, width)


def _translate(machine: Machine, text: str, table: Any) -> str:
    if type(table) is not dict:
        raise TypeError("translate needs a dict")
    machine.room(len(text) * max((len(item) for item in table.values() if type(item) is str), default=1))
    return str.translate(text, table)


def _extend(machine: Machine, items: list[Any], more: Iterable[Any]) -> None:
    added = list(more)
    machine.room(len(items) + len(added))
    items.extend(added)


def _update(machine: Machine, counter: Counter[Any], *others: Any, **named: Any) -> None:
    for values in (counter, named, *others):
        if isinstance(values, dict):
            machine.counts(values)
    counter.update(*others, **named)


def _subtract(machine: Machine, counter: Counter[Any], *others: Any, **named: Any) -> None:
    for values in (counter, named, *others):
        if isinstance(values, dict):
            machine.counts(values)
    counter.subtract(*others, **named)


_WITH_MACHINE = frozenset({_replace, _join, _center, _ljust, _rjust, _zfill, _translate, _extend, _update, _subtract})
# These keep or compare their arguments, which they must get as they are.
_KEEPING = frozenset("add append appendleft count discard get index insert pop remove setdefault".split())


def _of(kind: type, names: str, **own: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    return {**{name: getattr(kind, name) for name in names.split()}, **own}


_DICT = "clear copy get items keys pop popitem setdefault update values"
_FROZENSET = "copy difference intersection isdisjoint issubset issuperset symmetric_difference union"

METHODS: Mapping[type | None, Mapping[str, Callable[..., Any]]] = {
    str: _of(
        str,
        """capitalize casefold count endswith find index isalnum isalpha isascii isdecimal isdigit isidentifier
        islower isnumeric isspace istitle isupper lower lstrip maketrans partition removeprefix removesuffix rfind
        rindex rpartition rsplit rstrip split splitlines startswith strip swapcase title upper""",
        replace=_replace,
        join=_join,
        center=_center,
        ljust=_ljust,
        rjust=_rjust,
        zfill=_zfill,
        translate=_translate,
    ),
    list: _of(list, "append clear copy count index insert pop remove reverse sort", extend=_extend),
    tuple: _of(tuple, "count index"),
    dict: _of(dict, f"{_DICT} fromkeys"),
    defaultdict: _of(defaultdict, _DICT),
    OrderedDict: _of(OrderedDict, f"{_DICT} move_to_end"),
    Counter: _of(Counter, f"{_DICT} elements most_common total", update=_update, subtract=_subtract),
    set: _of(
        set,
        f"""{_FROZENSET} add clear difference_update discard intersection_update pop remove
        symmetric_difference_update update""",
    ),
    frozenset: _of(frozenset, _FROZENSET),
    deque: _of(
        deque, "append appendleft clear copy count extend extendleft index insert pop popleft remove reverse rotate"
    ),
    int: _of(int, "bit_length bit_count"),
    float: _of(float, "is_integer"),
}


# --- functions ---------------------------------------------------------------


def builtins(machine: Machine) -> dict[str, Any]:
    """The builtin functions and classes that a program finds."""

    def integer(value: Any = 0, base: Any = None) -> int:
        if type(value) is str and len(value) > _DIGITS:
            raise ValueError("the text of the integer is too long")
        return int(value) if base is None else int(value, base)

    def rounded(value: Any, digits: Any = None) -> Any:
        if digits is not None and abs(operator.index(digits)) > 400:
            raise Refused("unsupported: round to so many digits")
        return round(value, digits)

    def power(base: Any, exponent: Any, modulus: Any = None) -> Any:
        return machine.binary(ast.Pow, base, exponent) if modulus is None else pow(base, exponent, modulus)

    def total(items: Iterable[Any], start: Any = 0) -> Any:
        if type(start) is str:
            raise TypeError("sum() can't sum strings")
        for item in items:
            start = machine.binary(ast.Add, start, item)
        return start

    def kind_of(value: Any) -> Any:
        known = [made for made in found.values() if type(made) is Native and made.kind is type(value)]
        if not known:
            raise Refused("unsupported: type of this value")
        return known[0]

    def text(value: Any = "") -> str:
        return machine.text(value)

    def following(items: Iterator[Any], *default: Any) -> Any:
        found = next(items, *default)
        if type(found) is tuple:  # which zip, permutations and others make only now
            machine.charge(found)
        return found

    def nothing(*_: Any, **__: Any) -> None:
        return None

    classes: dict[type, Callable[..., Any]] = {
        bool: bool,
        int: integer,
        float: float,
        complex: complex,
        list: list,
        tuple: tuple,
        dict: dict,
        set: set,
        frozenset: frozenset,
    }
    # These look at a value but don't walk through it, or give back a lazy iterator.
    direct: dict[str, Callable[..., Any]] = {
        "str": text,
        "abs": abs,
        "callable": lambda value: type(value) is Native,
        "format": lambda value, form="": machine.formatted(value, form),
        "isinstance": lambda value, kinds: isinstance(value, machine.kinds(kinds)),
        "iter": iter,
        "len": len,
        "next": following,
        "print": nothing,
        "range": range,
        "repr": lambda value: machine.text(value, quoted=True),
        "reversed": reversed,
        "type": kind_of,
    }
    walking: dict[str, Callable[..., Any]] = {
        "pow": power,
        "round": rounded,
        "sum": total,
        **{f.__name__: f for f in (all, any, bin, chr, divmod, hex, max, min, oct, ord, sorted)},
        **{f.__name__: f for f in (enumerate, filter, map, zip)},
    }
    found: dict[str, Any] = {
        **{kind.__name__: Native(machine, kind.__name__, made, kind=kind) for kind, made in classes.items()},
        **{name: Native(machine, name, made, metered=False) for name, made in direct.items()},
        **{name: Native(machine, name, made) for name, made in walking.items()},
        **{kind.__name__: Native(machine, kind.__name__, kind, kind=kind, metered=False) for kind in EXCEPTIONS},
    }
    found["str"].kind = str
    found["range"].kind = range
    return found


def modules(machine: Machine) -> dict[str, Module]:
    """The modules that a program can import, with a part of what they hold."""

    def natives(functions: Mapping[str, Callable[..., Any]]) -> dict[str, Any]:
        return {name: Native(machine, name, function) for name, function in functions.items()}

    def picked(module: Any, names: str) -> dict[str, Callable[..., Any]]:
        return {name: getattr(module, name) for name in names.split()}

    def wrapped(name: str, function: Callable[..., Any]) -> Native:
        return Native(machine, name, function, metered=False)

    # math

    def factorial(n: int) -> int:
        machine.bits(n * max(n.bit_length() - 1, 1))
        return math.factorial(n)

    def comb(n: int, k: int) -> int:
        machine.bits(n)
        return math.comb(n, k)

    def perm(n: int, k: int | None = None) -> int:
        machine.bits((n if k is None else k) * n.bit_length())
        return math.perm(n, k)

    def prod(items: Iterable[Any], *, start: Any = 1) -> Any:
        for item in items:
            start = machine.binary(ast.Mult, start, item)
        return start

    def lcm(*numbers: int) -> int:
        machine.bits(sum(number.bit_length() for number in numbers))
        return math.lcm(*numbers)

    # functools and itertools

    def reduce(function: Native, items: Iterable[Any], *start: Any) -> Any:
        return functools.reduce(function, items, *start)

    def cache(function: Native) -> Native:
        return wrapped(function.name, functools.lru_cache(maxsize=None)(function))

    def lru_cache(maxsize: Any = 128, typed: bool = False) -> Native:
        if type(maxsize) is Native:
            return cache(maxsize)
        return wrapped("lru_cache", cache)

    def partial(function: Native, *given: Any, **named: Any) -> Native:
        return wrapped("partial", functools.partial(function, *given, **named))

    def accumulate(items: Iterable[Any], func: Any = None, *, initial: Any = None) -> Iterator[Any]:
        add = func or (lambda left, right: machine.binary(ast.Add, left, right))
        return itertools.accumulate(items, add, initial=initial)

    def product(*pools: Iterable[Any], repeat: int = 1) -> Iterator[Any]:
        machine.room(len(pools) * max(repeat, 0))
        return itertools.product(*pools, repeat=repeat)

    def chosen(function: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        def choose(items: Iterable[Any], r: Any = None) -> Iterator[Any]:
            machine.room(0 if r is None else r)
            return function(items, r)

        return choose

    def arithmetic(kind: type[ast.operator]) -> Callable[[Any, Any], Any]:
        return lambda left, right: machine.binary(kind, left, right)

    def itemgetter(*keys: Any) -> Native:
        return wrapped("itemgetter", operator.itemgetter(*keys))

    math_names = """acos asin atan atan2 ceil copysign cos cosh degrees dist exp fabs floor fmod frexp fsum gcd hypot
        isclose isfinite isinf isnan isqrt ldexp log log10 log1p log2 modf pow radians sin sinh sqrt tan tanh trunc"""
    own_math: dict[str, Callable[..., Any]] = {
        "factorial": factorial,
        "comb": comb,
        "perm": perm,
        "prod": prod,
        "lcm": lcm,
    }
    iterators = """chain compress count cycle dropwhile filterfalse groupby islice pairwise repeat starmap takewhile zip_longest"""
    choosing = picked(itertools, "combinations combinations_with_replacement permutations")
    choices = {name: chosen(function) for name, function in choosing.items()}
    contents: dict[str, dict[str, Any]] = {
        "__future__": {},
        "typing": {},
        "math": {
            **natives({**picked(math, math_names), **own_math}),
            **{name: getattr(math, name) for name in ("e", "inf", "nan", "pi", "tau")},
        },
        "functools": natives(
            {
                "reduce": reduce,
                "cache": cache,
                "lru_cache": lru_cache,
                "cmp_to_key": lambda function: wrapped("key", functools.cmp_to_key(function)),
            }
        ),
        "itertools": natives({**picked(itertools, iterators), **choices, "accumulate": accumulate, "product": product}),
        "collections": {
            kind.__name__: Native(machine, kind.__name__, kind, kind=kind)
            for kind in (Counter, OrderedDict, defaultdict, deque)
        },
        "heapq": natives(picked(heapq, "heapify heappop heappush heappushpop heapreplace nlargest nsmallest")),
        "bisect": natives(picked(bisect, "bisect bisect_left bisect_right insort insort_left insort_right")),
        "statistics": natives(picked(statistics, "mean median median_high median_low mode pstdev pvariance stdev")),
        "operator": {
            **natives(picked(operator, "eq ge gt le lt ne neg not_")),
            **natives({name: arithmetic(kind) for name, kind in _ARITHMETIC.items()}),
            "itemgetter": Native(machine, "itemgetter", itemgetter),
        },
        "string": {
            name: getattr(string, name)
            for name in "ascii_letters ascii_lowercase ascii_uppercase digits hexdigits punctuation whitespace".split()
        },
    }
    contents["functools"]["partial"] = wrapped("partial", partial)
    chain = contents["itertools"]["chain"]
    chain.members["from_iterable"] = Native(machine, "from_iterable", itertools.chain.from_iterable)
    return {name: Module(name, members) for name, members in contents.items()}


_ARITHMETIC: Mapping[str, type[ast.operator]] = {
    "add": ast.Add,
    "sub": ast.Sub,
    "mul": ast.Mult,
    "truediv": ast.Div,
    "floordiv": ast.FloorDiv,
    "mod": ast.Mod,
    "pow": ast.Pow,
    "and_": ast.BitAnd,
    "or_": ast.BitOr,
    "xor": ast.BitXor,
}
