"""What is hostile: ids, paths, expressions, targets, texts and values that no door may let in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from wonder_ray.values import Json

# fmt: off
IDS: Final = [
    "", " ", ".", "..", "/", "\\", "~", "-", "--help", "-x", "\0", "\n", "\r\n", "\t", "%00", "%2e%2e", "*", "?", "$HOME",
    "`id`", "$(id)", "a;b", "a|b", "a&b", "a'b", 'a"b', "a b", "a\0b", "a\nb", "a/b", "a\\b", "a:b", "a*b", "a,b", "a=b",
    "a#b", "a@b", "../x", "../../etc/passwd", "..\\..\\windows", "/etc/passwd", "file:///etc/passwd", "C:\\x",
    "\\\\host\\share", "./x", "x/..", "%2e%2e%2f", "..%2f", "..%c0%af", "....//", "x/../../y", "x\0.sqlite", "é",
    "\uff52\uff55\uff4e", "ru\u0301n", "a\u202eb", "\ufeffa", "a\u200b", "' OR 1=1 --", "'; DROP TABLE runs; --",
    "1; SELECT pg_sleep(10)", '" OR ""="', "{{7*7}}", "${7*7}", "<script>", "%s%s%n", "{0}", "\ud800", "a" * 129,
    "a" * 1_000_000, ".a", "-a", "_a", "a\u0000", "\x1b[31m", "AUX/", "a" * 200 + "/" + "b", "null\0", "[1]",
]
SEGMENTS: Final = [
    "..", ".", "~", "%2e%2e", "etc", "passwd", "runs", "\0", "a b", "*", "é", "..;", "$HOME", "x" * 300,
]
EXPRESSIONS: Final = [
    "", " ", "(", ")", "[", "{", "1 +", "+ 1", "a b", "1 1", "x.", ".x", "x[", "input..a", "input.[0]", "'", '"', "'a",
    "/* x", "@", "#", "import os", "__import__('os')", "open('/etc/passwd')", "eval('1')", "exec('1')", "os.system('id')",
    "lambda: 1", "x = 1", "a := 1", "().__class__", "''.__class__.__mro__", "state.__reduce__()", "type.mro()",
    "input.map(x, __import__)", "input.__class__()", "globals()", "locals()", "vars()", "dir()", "getattr(input, 'x')",
    "print(1)", "f'{input}'", "`id`", "$(id)", "${input}", "{{ input }}", "unknown", "unknown.field", "Input", "INPUT",
    "this", "self", "request", "config", "env", "os", "sys", "secrets", "process.env", "input.map(x, x", "input.all(x)",
    "input.exists(1, true)", "[1].map(input, 1", "[].reduce(a, b, c)", "input.unknown_method()", "size(1, 2)", "size()",
    "matches('a')", "string()", "int('x', 2)", "timestamp()", "duration()", "1 + 'a' +", "true &&", "!", "? :", "1 ? 2",
    "has(input)", "has(1)", "has()", "[1, 2", "{'a': }", "{: 1}", "{'a' 1}", "0x", "1e", "1.2.3", "'\\x'", "'\\u12'",
    "b'\\q'", "9" * 400, "(" * 2000 + "1" + ")" * 2000, "[" * 1000 + "]" * 1000, "{'a':" * 500 + "1" + "}" * 500,
    "+".join(["1"] * 3000), "input" + ".a" * 3000, "input" + "[0]" * 2000, "true ? true : " * 500 + "true", "x" * 5_000_000,
    "'" + "x" * 5000, "[1]" + ".map(a, [a, a])" * 60, "['x']" + ".map(s, s + s)" * 30, "[0]" + ".map(a, [a, a, a, a])" * 9,
    "\0", "input\0", "é", "input.é",
]
EVALUATED: Final = [
    "input.__class__.__init__.__globals__", "input.__dict__", "input.text.__class__", "input['__class__']", "state.__class__",
    "input.missing", "input.text + 1", "input.list[99]", "input.list[-1]", "1 / 0", "1 % 0", "input.text.missing",
    "input.list.x", "9223372036854775807 + 1", "-9223372036854775808 - 1", "9223372036854775807 * 2",
    "int('9999999999999999999')", "int('x')", "double('x')", "bool('x')", "timestamp('x')", "duration('x')",
    "timestamp('9999-99-99T00:00:00Z')", "bytes('a')", "b'abc'", "0.0 / 0.0", "1.0 / 0.0", "{1: 2}", "{true: 1}", "type(1)",
    "input.text.matches('(')", "input.text.matches('(?!a)')", "input < 1", "input.nul == 'x'", "input.nul + 'x'", "state.x",
    "item", "index", "error.type", "input.n + 1.5", "!input.n", "input.n && true", "input.big.map(x, input.big.map(y, y))",
    "input.big.exists(x, input.big.exists(y, y == -1))", "input.big.all(x, input.big.all(y, y > -1))",
]
DATA: Final[dict[str, Json]] = {"text": "a", "n": 1, "list": [1], "nul": "a\0b", "big": list(range(2000))}
TARGETS: Final = [
    "", "state", "output", "input.a", "result", "State.a", "state.", "state..a", "state.a.", "state.1", "state[0]",
    "state['a", "state['a'", "state.a b", "state.a;b", "state.__class__ = 1", "state['a'].", "state.a-b", "state.a/b", "$.a",
    "state.$where", "state.a[*]", "state['\0']", "state" + ".a" * 17, "state." + "a" * 1100, "state['\\q']", "state['a\nb']",
    "state.é", "item.a", "run.id", "state[a]", "state.a = 1", "state.a, state.b", "state.a OR 1=1", "state.a'; --",
    'state["a]', "state{a}", "state.a()", "state.a.map(x, x)", "\0", "x" * 10_000,
]
JSON_TEXTS: Final[list[bytes | str]] = [
    "", " ", "{", "}", "[", "]", "{]", "[1,]", '{"a":1,}', '{"a"}', "{a:1}", "{'a':1}", "[1 2]", "nul", "tru", "True", "None",
    "undefined", "NaN", "Infinity", "-Infinity", "+1", "01", "1.", ".5", "1e", "0x1", "1_000", '"', '"\\x"', '"\\u12"',
    '"\t"', '"a\nb"', "// x\n1", "/* */ 1", "1 2", "\ufeff1", "[1]]", '{"a":1}}', b"\xff", b'"\xff"', b"\x00",
    b'"\xed\xa0\x80"', b"\x80\x81", '"\\ud800"', "1e999", "[" * 100_000, "[" * 5_000_000, "[" * 2000 + "]" * 2000,
    '{"a":' * 50_000, '{"a":' * 2000 + "1" + "}" * 2000, '["a",' * 50_000, "[[],[" * 30_000, "-" * 100_000,
    '"' + "\\" * 100_001, "[" + "1," * 100_000, "{" + '"a":1,' * 100_000, "\0" * 1000, "#", "@",
]
VALUES: Final = [
    float("nan"), float("inf"), -float("inf"), {1: 2}, {None: 1}, {"a": {1, 2}}, b"x", object(), (1, 2), 1j, [float("nan")],
    {"a": b""}, {True: 1}, [object()], {"a": [1, {2: 3}]}, range(3), type, len, Exception("x"), Path("x"), frozenset({1}),
    bytearray(b"x"),
]
YAML_TEXTS: Final = [
    "!!python/object/apply:os.system ['id']", "!!python/name:os.system", "!!python/object:x.Y {}", "!!binary aGk=",
    "!!set {a}", "!x a", "a: &a [*a]", "*a", "&a [&b [*a]]", "a: b: c", "a: 1\na: 2", "- a\nb: c", "\t- a", "{a: 1", "[1",
    "'a", '"a', "a: |\n\tb", "%YAML 9.9\n--- a", "--- a\n--- b", "? [a]\n: b", "<<: 1", "<<: [1]", "\0", "\x01", "a: \ud800",
    "[" * 3000, "{a: " * 3000, "- " * 3000 + "a", "? " * 2000,
]
SQL: Final = [
    "DROP TABLE logs", "DELETE FROM logs", "UPDATE logs SET message = ''", "INSERT INTO logs VALUES (1)",
    "SELECT 1; DROP TABLE logs", "ATTACH '/etc/passwd' AS x", "PRAGMA writable_schema = 1", "VACUUM INTO '/x'",
    "SELECT load_extension('x')", "SELECT readfile('/etc/passwd')", "CREATE TABLE x (a)", "SELECT * FROM nothing",
    "SELECT writefile('/x', 'y')", "WHERE 1=1; DELETE FROM logs", "WHERE (", "SELECT", "'", "\0",
    "WHERE 1 = 1 UNION SELECT sql FROM sqlite_master", "WITH x AS (DELETE FROM logs RETURNING 1) SELECT * FROM x",
    "EXPLAIN DELETE FROM logs",
]
QUESTIONS: Final = [
    "SELECT * FROM read_text('/etc/passwd')", "SELECT * FROM read_csv('/etc/passwd')", "FROM '/etc/passwd'",
    "SELECT * FROM glob('/*')",
    "SELECT * FROM read_parquet('http://169.254.169.254/x')", "COPY (SELECT 1) TO '/tmp/wonder-hostile'", "SELECT getenv('HOME')",
    "ATTACH '/tmp/wonder-hostile.db'", "INSTALL httpfs", "LOAD httpfs", "SET enable_external_access = true",
    "SET lock_configuration = false", "PRAGMA enable_external_access = true", "EXPORT DATABASE '/tmp/wonder-hostile'",
    "CREATE SECRET s (TYPE s3)", "SELECT * FROM read_blob('/proc/self/environ')",
]
SCHEMAS: Final[list[Any]] = [
    {"type": "no"}, {"type": 1}, {"$ref": "#"}, {"$ref": "#/x"}, {"$ref": "file:///etc/passwd"},
    {"$ref": "http://169.254.169.254/"}, 7, "x", [], {"pattern": "("}, {"pattern": "(?!a)"}, {"pattern": r"(a)\1"},
    {"pattern": "a{99999}"}, {"patternProperties": {"[": {}}}, {"minimum": "x"}, {"properties": 1}, {"items": "x"},
    {"allOf": []}, {"enum": "x"}, {"required": "a"}, {"description": "x" * 300_000}, {"anyOf": [{"$ref": "#"}]},
    {"$defs": {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(40)} | {"d40": {}}, "$ref": "#/$defs/d0"},
]
NODE: Final = {"id": "a", "kind": "action", "action": "m:f"}
ACTIONS: Final = [
    "", ":", "m:", ":f", "m f", "m:f()", "os.system('id')", "m:f;id", "../m:f", "m/f", "m:f:g", "m:\0", "m:1f",
    "m:f.<locals>.g", "m..n:f",
]
# fmt: on


def _bomb(first: str, of: str) -> str:
    """Twelve times, each holding nine of the one before: 9**12 values, if anybody counts them out."""
    lines = [first]
    for number in range(1, 12):
        name, before = chr(97 + number), chr(96 + number)
        lines.append(
            f"{name}: &{name} {of[0]}{','.join(f'{of[2:]}{n}: *{before}' if of[2:] else f'*{before}' for n in range(9))}{of[1]}"
        )
    return "\n".join(lines)


YAML_BOMBS: Final = [_bomb("a: &a [x,x,x,x,x,x,x,x,x]", "[]"), _bomb("a: &a {x: 1}", "{}k")]
