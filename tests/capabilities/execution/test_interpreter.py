"""The interpreter over a whitelisted syntax tree: what it does as Python does, bounds and refuses."""

import sys
from typing import Any

import pytest

from read_env.capabilities.execution import metering
from read_env.capabilities.execution.interpreter import Machine
from read_env.capabilities.execution.library import Refused
from read_env.capabilities.execution.values import text_of

# Programs whose value of `f()` must be Python's.
SAME = """
def f(): return [1 + 2 * 3 - 4 // 3, 7 % 3, 2 ** 10, 7 / 2, -3, +3, ~3, not 3, 1 << 4, 17 >> 2, 6 & 3, 6 | 3, 6 ^ 3]
def f(): return [1 < 2 < 3, 1 < 3 < 2, 1 == 1.0, [] is None, 2 in [1, 2], 'a' not in 'abc', 3 in range(10), 5 in {5: 1}]
def f(): return [1 and 0, 0 or 'x', [] or {}, 1 if [] else 2, (lambda x, y=2: x * y)(4), 0 and 1 / 0]
def f(a=1, /, b=2, *c, d=4, **e): return [a, b, c, d, e]
def f(): return g(1, *[2, 3], d=5, **{'z': 6})§def g(a, *c, d=4, **e): return [a, c, d, sorted(e.items())]
def f(): return [x * y for x in range(4) if x % 2 for y in range(x)]
def f(): return {k: v for k, v in zip('abc', range(3))}, {x % 3 for x in range(9)}, sum(x for x in range(5))
def f():§ total = 0§ for i in range(10):§  if i == 3: continue§  if i == 6: break§  total += i§ else: total = -1§ return total
def f():§ n = 0§ while n < 5: n += 2§ else: n *= 10§ return n
def f():§ a, (b, *c), d = 1, [2, 3, 4], 'x'§ a, b = b, a§ return a, b, c, d
def f():§ xs = [3, 1, 2]; ys = xs; ys += [4]; xs[0] += 5; xs[1:3] = 'ab'; del xs[0]; return xs, ys, xs[::-1], xs[-1]
def f():§ d = {}; d['a'] = 1; d['b'] = d.get('a', 0) + 1; d.setdefault('c', []).append(range(2)[1]); del d['a']; return d
def f():§ def g():§  nonlocal n§  n += 1§  return n§ n = 0§ g(); g()§ return n
n = 5§def f():§ global n§ n += 1§ return n
def f():§ try:§  return 1 / 0§ except ZeroDivisionError as e: return str(e)§ finally: print('x')
def f():§ try: {}['k']§ except (IndexError, KeyError) as e: x = str(e)§ else: x = 2§ return x
def f():§ try:§  raise ValueError('a', 1)§ except Exception as e:§  return str(e), isinstance(e, ValueError)
def f():§ try:§  try: int('x')§  except ValueError: raise§ except Exception as e: return str(e)
def f():§ try: assert 1 > 2, 'no'§ except AssertionError as e: return str(e)
def f():§ x = 1§ def g():§  return x§ x = 2§ return g()
def f():§ return [g(i) for i in range(4)]§def g(n): return 1 if n < 2 else n * g(n - 1)
def f(): return f"{3.14159:.2f}|{5:>4}|{'a'!r}|{[1, 'b']}|{10:x}|{0.5:%}", '%s-%03d-%.1f' % ('a', 7, 2.55), '%s' % 'x'
def f(): return 'a,b'.split(','), ' x '.strip(), 'abc'.replace('b', 'zz'), '-'.join(map(str, [1, 2])), 'abc'.upper()
def f(): return 'abc'.find('c'), 'a'.isalpha(), 'ab'.center(6, '*'), '7'.zfill(3), 'aXb'.swapcase(), 'abc'[1:], 'ab' * 2
def f(): return sorted('hello', key=lambda c: (-ord(c), c)), max([1, 5, 2]), min('b', 'a'), any([]), all([1]), abs(-2)
def f(): return list(enumerate('ab', 1)), list(reversed([1, 2])), list(map(lambda a, b: a + b, [1, 2], [3, 4]))
def f(): return list(filter(None, [0, 1])), next(iter([7])), next(iter([]), 8), divmod(7, 2), round(2.567, 2), round(2.5)
def f(): return int('12'), int('ff', 16), float('1.5'), str(1.0), bool([]), chr(97), ord('b'), hex(255), bin(5), pow(3, 5, 7)
def f(): return isinstance(1, (int, str)), isinstance('a', str), type(1) == int, type([]) is list, len({1: 2}), repr('a')
def f(): return [*range(3), *'ab'], {**{'a': 1}, 'b': 2}, (1,), (), {1, 2} | {3}, {1, 2} & {2}, {1: 2} | {3: 4}
def f(): return str.upper('a'), list(map(str.strip, [' a '])), dict.fromkeys('ab', 0), 'abc'.translate(str.maketrans('a', 'b'))
def f():§ if (n := len('abc')) > 2: return n
def f():§ xs = [y := 1, y + 1]; zs = [last := x for x in range(3)]; return xs, zs, last
import math§def f(): return math.sqrt(16), math.gcd(12, 18), math.factorial(5), math.comb(5, 2), math.prod([1, 2, 3]), math.pi
from math import floor as fl, ceil§def f(): return fl(2.5), ceil(2.5)
import itertools as it§def f(): return list(it.islice(it.count(3), 2)), list(it.permutations([1, 2])), list(it.chain([1], [2]))
from itertools import *  §def f(): return 1
import itertools§def f(): return list(itertools.chain.from_iterable([[1], [2]])), list(itertools.accumulate([1, 2, 3]))
import itertools§def f(): return [(k, list(g)) for k, g in itertools.groupby('aab')], list(itertools.product([0, 1], repeat=2))
from functools import reduce, lru_cache§@lru_cache(maxsize=None)§def g(n): return n if n < 2 else g(n - 1) + g(n - 2)§def f(): return g(50), reduce(lambda a, b: a * b, [1, 2, 3])
from functools import cache, cmp_to_key§@cache§def g(n): return n§def f(): return g(3), sorted([3, 1], key=cmp_to_key(lambda a, b: a - b))
from collections import Counter, defaultdict, deque§def f():§ d = defaultdict(list)§ d['a'].append(1)§ q = deque([1, 2])§ q.appendleft(0)§ return dict(d), list(q), q.pop(), Counter('aab').most_common(1), dict(Counter('ab') + Counter('a'))
import heapq, bisect§def f():§ h = [3, 1, 2]§ heapq.heapify(h)§ return heapq.heappop(h), bisect.bisect([1, 2, 4], 3), heapq.nlargest(2, h)
import statistics, string, operator§def f(): return statistics.mean([1, 2, 3]), string.digits, operator.add(1, 2), sorted([(1, 2), (0, 3)], key=operator.itemgetter(1))
from typing import List, Optional§def f(xs: Optional[List[int]] = None) -> List['int']:§ y: int = 3§ z: str§ return [y]
def f():§ x = 'outer'§ [x for x in range(3)]§ return x
def f():§ xs = []§ for i in range(3):§  for j in range(3):§   if j == 1: break§   xs.append((i, j))§ return xs
def f():§ return [list(z) for z in zip(*[[1, 2], [3, 4]])], list(zip(*[iter(range(4))] * 2))
def f():§ s = set()§ s.add((1, 2)); s.update([3, 4]); s.discard(9)§ return s
def f():§ def g(xs=[]):§  xs.append(1)§  return xs§ g()§ return g()
def f():§ r = range(5)§ xs = []§ xs.append(r)§ return xs[0][2], len(r), r[1:3][0], list(r[::2])
def f():§ for i in []: pass§ return [i for i in (3, 4)][-1]
def f():§ x = y = []§ x.append(1)§ return y
def f(): return all(n % d for n in [7] for d in range(2, n)), [[0] * 2 for _ in range(2)], 1_000, 0x10, 1e3, 2j * 2j
def f(): return ('a' 'b', "it's", '\\n', 'é', None, True, ...)
""".strip().splitlines()


@pytest.mark.parametrize("number", range(len(SAME)))
def test_the_interpreter_does_as_python_does(number: int) -> None:
    code = SAME[number].replace("§", "\n")
    space: dict[str, Any] = {}
    exec(code, space)
    machine = Machine()
    try:
        machine.execute(code)
    except Refused as error:
        assert "import *" in code, error
        return
    assert text_of(machine.evaluate("f()")) == text_of(space["f"]())


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("def f():\n    x += 1\nf()", UnboundLocalError),
        ("def f():\n    print(y)\n    y = 1\nf()", UnboundLocalError),
        ("x", NameError),
        ("a, b = 1, 2, 3", ValueError),
        ("1 + 'a'", TypeError),
        ("len(5)", TypeError),
        ("3()", TypeError),
        ("'a'()", TypeError),
        ("def f(a): pass\nf(b=1)", TypeError),
        ("raise 3", TypeError),
        ("raise KeyError", KeyError),
        ("next(iter([]))", StopIteration),
        ("[].pop()", IndexError),
        ("int('9' * 5000)", ValueError),
        ("break", SyntaxError),
    ],
)
@pytest.mark.filterwarnings("ignore::SyntaxWarning")
def test_the_interpreter_raises_as_python_does(code: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        Machine().execute(code)
    with pytest.raises(error):
        exec(code, {})


@pytest.mark.parametrize(
    "code",
    [
        "10 ** 10 ** 10",
        "2 ** 100000",
        "1 << 10**9",
        "x = 3\nwhile True:\n    x = x * x",
        "x = 3\nwhile True:\n    x += x",
        "pow(10, 10**9)",
        "sum([10**4000] * 10, 10**4213) * 10**10",
        "'a' * 10**9",
        "[0] * 10**9",
        "10**9 * (1,)",
        "'a'.ljust(10**9)",
        "'a'.zfill(10**9)",
        "'a'.replace('', 'b' * 10**6)",
        "('a' * 10**6).replace('a', 'b' * 10**6)",
        "('a' * 10**6).join(['b'] * 10**6)",
        "('a' * 10**6).translate({97: 'b' * 10**6})",
        "'%1000000000d' % 1",
        "'%*d' % (10**9, 1)",
        "'%.99999d' % 1",
        "f'{1:1000000000}'",
        "f'{1:{10**9}}'",
        "f'{1:\u0661\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0660}'",
        "f'{1:0000000001000000000}'",
        "format(1, '99999999')",
        "b'%1000000000d' % 1",
        "('%999d' * 2000) % ((1,) * 2000)",
        "('%.999f' * 2000) % ((1.5,) * 2000)",
        "('%(x)s' * 20_000) % {'x': 'a' * 1000}",
        "('%(x)d' * 20_000) % {'x': 10**4000}",
        "('%d' * 2000) % ((10**4000,) * 2000)",
        "x = []\nfor _ in range(60):\n    x = [x, x]\nstr(x)",
        "x = []\nfor _ in range(60):\n    x = [x, x]\nf'{x}'",
        "x = []\nfor _ in range(60):\n    x = [x, x]\n'%s' % x",
        "list(range(10**10))",
        "sum(range(10**10))",
        "[x for x in range(10**10)]",
        "10**9 in iter(range(10**10))",
        "max(x for x in range(10**10))",
        "import itertools\nlist(itertools.count())",
        "import itertools\nnext(itertools.compress(itertools.count(), itertools.cycle([0])))",
        "import itertools\nitertools.combinations_with_replacement([1], 10**10)",
        "import itertools\nitertools.permutations([1], 10**10)",
        "import itertools\nitertools.product([1], repeat=10**10)",
        "import math\nmath.factorial(10**6)",
        "import math\nmath.perm(10**6, 10**6)",
        "import math\nmath.comb(10**6, 10**5)",
        "import math\nmath.prod([10**4000] * 100)",
        "from functools import reduce\nreduce(lambda a, b: a * b, [10**4000] * 100)",
        "import itertools\nlist(itertools.accumulate([[0] * 10**5] * 100))",
        "from collections import Counter\nc = Counter({1: 'x'})\nwhile True:\n    c.update(c)",
        "from collections import Counter\nc = Counter({1: []})\nc += c",
        "import itertools\nit, x = itertools.permutations(range(10**5)), []\nfor _ in range(100):\n    x.append(next(it))",
        "round(5, -10**10)",
        "x = [1]\nfor i in x:\n    x.append(i)",
        "x = [1]\nwhile True:\n    x.extend(x)",
        "x = [1]\nwhile True:\n    x += x",
        "x = [1]\nwhile True:\n    x[0:0] = x",
        "x = 'a'\nwhile True:\n    x += x",
        "from collections import deque\nimport itertools\nq = deque()\nq += itertools.count()",
        "from collections import deque\nq = deque()\nq += (0 for _ in iter(lambda: 0, 1))",
        "import itertools\nd = {}\nd |= zip(itertools.count(), itertools.count())",
        "x = []\ns = 'a' * 10**5 + 'b'\nfor i in range(100):\n    x.append(s.partition('b'))",
        "x = []\ns = 'a' * 10**5 + 'b'\nfor i in range(100):\n    x.append(s.split('b'))",
        "x = []\ns = 'a' * 10**5 + '\\n'\nfor i in range(100):\n    x.append(s.splitlines())",
        "x = 'a'\nwhile True:\n    x = f'{x}{x}'",
        "a = ['x' * 10**6 for _ in range(10**6)]",
        "def f(n):\n    return f(n - 1) + f(n - 2)\nf(0)\n" + "try:\n    f(0)\nexcept RecursionError:\n    pass\n" * 3,
        "while True:\n    try:\n        raise ValueError\n    except:\n        pass",
        "try:\n    while True:\n        pass\nfinally:\n    while True:\n        pass",
        "def f():\n    try:\n        while True:\n            pass\n    finally:\n        return 1\nf()",
    ],
)
def test_the_interpreter_bounds_what_is_made(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metering, "STEPS", 300_000)
    with pytest.raises((Refused, RecursionError)):
        Machine().execute(code)


@pytest.mark.parametrize(
    "code",
    [
        "import os",
        "import sys",
        "import collections.abc",
        "from os import path",
        "from . import x",
        "from math import *",
        "from math import __loader__",
        "import math\nmath.__loader__",
        "import math\nmath.nothing",
        "open",
        "eval('1')",
        "exec('1')",
        "getattr(1, 'real')",
        "setattr",
        "globals()",
        "vars()",
        "dir()",
        "type(type)",
        "object",
        "super",
        "memoryview",
        "classmethod",
        "bytes(10)",
        "BaseException",
        "SystemExit",
        "MemoryError",
        "__import__('os')",
        "__builtins__",
        "__name__.__class__",
        "().__class__",
        "(lambda: 1).__globals__",
        "(lambda: 1).__code__",
        "len.__self__",
        "len.function",
        "len.machine",
        "str.mro",
        "int.from_bytes",
        "[].append.function",
        "(x for x in []).gi_frame",
        "(1).real",
        "''.format",
        "'{0.__class__}'.format(1)",
        "''.format_map",
        "str.format",
        "''.encode()",
        "f'{().__class__}'",
        "f'{len}'",
        "str(len)",
        "repr([len])",
        "try:\n    1 / 0\nexcept Exception as e:\n    e.__traceback__",
        "try:\n    1 / 0\nexcept Exception as e:\n    e.with_traceback",
        "try:\n    1 / 0\nexcept Exception as e:\n    e.args",
        "from functools import partial\npartial(len).func",
        "from functools import cache\ncache(len).__wrapped__",
        "from functools import cache\ncache(len).cache_info",
        "from collections import Counter\nCounter.__init__",
        "from collections import defaultdict\ndefaultdict(list).default_factory",
        "from operator import attrgetter",
        "from operator import methodcaller",
        "import itertools\nitertools.count().__reduce__()",
        "class C:\n    pass",
        "def f():\n    yield 1",
        "async def f():\n    pass",
        "with x:\n    pass",
        "match 1:\n    case 1:\n        pass",
        "x = 1\nx.y = 2",
        "x = b'a'",
        "print(*[1], sep='', __file=1) if __debug__ else 0",
        "try:\n    pass\nexcept* ValueError:\n    pass" if sys.version_info >= (3, 11) else "import os",
    ],
)
def test_the_interpreter_refuses_what_it_does_not_know(code: str) -> None:
    with pytest.raises(Refused, match="unsupported"):
        Machine().execute(code)


def test_formats_within_the_bounds_are_written() -> None:
    machine = Machine()
    machine.execute(
        "many = ('%5d, ' * 1000) % tuple(range(1000))\nnamed = ('%(x)s' * 100) % {'x': 'ab', 'y': 'c' * 999}"
    )
    assert machine.evaluate("many") == ("%5d, " * 1000) % tuple(range(1000))
    assert machine.evaluate("named") == "ab" * 100
    assert machine.evaluate("'%5.1f%%|%-4s|%x|%s' % (99.5, 'a', -255, 2j)") == " 99.5%|a   |-ff|2j"


def test_in_place_operators_take_what_python_takes() -> None:
    machine = Machine()
    machine.execute(
        "from collections import deque\nq = deque([1])\nq += range(3)\nq += 'ab'\nx = [0]\nx += (i for i in q)"
    )
    assert machine.evaluate("x") == [0, 1, 0, 1, 2, "a", "b"]


def test_a_refusal_cannot_be_caught() -> None:
    with pytest.raises(Refused):
        Machine().execute("try:\n    open\nexcept:\n    pass")
    with pytest.raises(Refused):
        Machine().execute("try:\n    10 ** 10 ** 10\nexcept Exception:\n    pass\nfinally:\n    x = 1")


def test_unsupported_code_does_not_run_in_part() -> None:
    machine = Machine()
    with pytest.raises(Refused):
        machine.execute("x = 1\nclass C:\n    pass")
    assert "x" not in machine.scope.names
