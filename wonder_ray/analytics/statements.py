"""What may be asked: one SELECT over the views, that calls nothing which reads or writes elsewhere.

DuckDB's own lock (see `database.py`) keeps a query from all files but the dataset's. It does not keep it from *writing* there:
`COPY ... TO` may stand in a WITH clause, and some table functions run SQL that they are given as text. So a query is parsed
first, and refused when anything but SELECTs, views and harmless table functions is in it.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from wonder_ray.errors import QueryError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import duckdb

Params: TypeAlias = Sequence[Any] | Mapping[str, Any] | None

TABLE_FUNCTIONS: Final = frozenset({"generate_series", "json_each", "json_tree", "range", "repeat", "unnest"})
"""Table functions that see nothing but their arguments."""
VIEWS: Final = frozenset({"events", "trace_events", "runs", "attempts", "tokens", "_births", "_restored"})
CATALOGUE: Final = "information_schema"
READING_NODES: Final = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
_WHERE: Final = re.compile(r"\s*where\b", re.IGNORECASE)
_GROUP_BY: Final = re.compile(
    r"\bgroup\s+by\s+((?:(?!\b(?:having|qualify|window|order|limit|offset)\b)[^;])+)", re.IGNORECASE | re.DOTALL
)


def completed(query: str) -> str:
    """The query; one that begins with WHERE, as the specification writes them, is made one over `events`.

    >>> completed("WHERE event_type LIKE 'token.%' ORDER BY sequence_number")
    "SELECT * FROM events WHERE event_type LIKE 'token.%' ORDER BY sequence_number"
    >>> completed("WHERE cost_usd > 0 GROUP BY workspace_id")[:87]
    'SELECT workspace_id, count(*) AS events, sum(tokens) AS tokens, sum(cost_usd) AS cost_u'
    """
    if not _WHERE.match(query):
        return query
    grouped = _GROUP_BY.search(query)
    if grouped is None:
        return f"SELECT * FROM events {query.strip()}"  # noqa: S608 - what the caller asks is his own, and checked
    totals = "count(*) AS events, sum(tokens) AS tokens, sum(cost_usd) AS cost_usd, sum(duration_ms) AS duration_ms"
    return f"SELECT {grouped[1].strip()}, {totals} FROM events {query.strip()}"  # noqa: S608 - as above


def checked(connection: duckdb.DuckDBPyConnection, query: str) -> str:
    """The one statement of a query; a `QueryError` unless it only reads the views."""
    import duckdb

    try:
        statements = connection.extract_statements(query)
        ((text,),) = connection.execute("SELECT json_serialize_sql(?)", [query]).fetchall()
    except duckdb.Error as error:
        raise QueryError(f"{error}\nin: {query}") from None
    parsed = json.loads(text)
    if len(statements) != 1 or parsed.get("error"):
        why = parsed.get("error_message") or f"it holds {len(statements)} statements"
        raise QueryError(f"only one SELECT can be asked ({why}): {query}")
    named = VIEWS | {str(each["key"]).lower() for node in _nodes(parsed) for each in _ctes(node)}
    for node in _nodes(parsed):
        kind = str(node.get("type"))
        if kind.endswith("_NODE") and kind not in READING_NODES:
            raise QueryError(f"a query may only read, and this has a {kind.removesuffix('_NODE')}: {query}")
        if kind == "TABLE_FUNCTION" and (name := node["function"].get("function_name")) not in TABLE_FUNCTIONS:
            raise QueryError(
                f"a query may read the views only, and not call {name}(): {query}\n"
                "(the dataset is plain Parquet: for anything else, use DuckDB itself on its folder)"
            )
        if kind == "BASE_TABLE" and node["schema_name"] != CATALOGUE and (name := str(node["table_name"])).lower() not in named:
            raise QueryError(f"there is no view {name!r}; there are events, trace_events, runs, attempts and tokens: {query}")
    return str(statements[0].query).strip().rstrip(";")


def _ctes(node: dict[str, Any]) -> list[Any]:
    """The names that a node gives to queries."""
    found = node.get("cte_map")
    return found.get("map", []) if isinstance(found, dict) else []


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a parsed query."""
    stack = [value]
    while stack:
        match stack.pop():
            case dict() as node:
                yield node
                stack.extend(node.values())
            case list() as items:
                stack.extend(items)


def bound(params: Params) -> list[Any] | dict[str, Any] | None:
    """Parameters as DuckDB takes them: a time without a zone is UTC, as all times are here.

    >>> bound([dt.datetime(2026, 11, 23)])
    [datetime.datetime(2026, 11, 23, 0, 0, tzinfo=datetime.timezone.utc)]
    """
    if params is None:
        return None
    if isinstance(params, Mapping):
        return {name: aware(value) for name, value in params.items()}
    return [aware(value) for value in params]


def aware(value: Any) -> Any:
    """The value; a time without a zone is made one of UTC."""
    return value.replace(tzinfo=dt.UTC) if isinstance(value, dt.datetime) and value.tzinfo is None else value
