"""Row fingerprints: what a row was computed from, in one short text that also tells what has changed.

A row is stale when the fingerprint that would be computed now differs from the one it carries. Nothing else decides
whether work is done: not clocks, not run histories. A fingerprint has four parts, `code-settings-model-inputs`, so
that comparing two names the reason.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

CODE, SETTINGS, MODEL, UPSTREAM = "code", "settings", "model", "upstream"
PARTS = (CODE, SETTINGS, MODEL, UPSTREAM)
"""What the parts stand for, in their order: another version of the computation, another setting, another version of a
model, another content of the rows that are read."""
_SEPARATOR = "-"
_PART_DIGITS = 8
_INPUT_DIGITS = 16
_ENCODER = json.JSONEncoder(default=str, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def hash_values(*values: object) -> str:
    """Return 32 hex digits over the values, in order; dates, times and numbers count by what they print as."""
    return hashlib.blake2b(_ENCODER.encode(values).encode(), digest_size=16).hexdigest()


def with_fingerprints(
    rows: pa.Table,
    columns: Sequence[str],
    code_version: str,
    settings: Mapping[str, Any] | None = None,
    models: Sequence[str] | None = None,
) -> pa.Table:
    """Return the rows with a `fingerprint` column: 8, 8, 8 and 16 hex digits.

    Args:
        rows: Any table without a column `fingerprint`.
        columns: The columns that the computation reads.
        code_version: Version of the computation; raising it makes every row stale.
        settings: Settings that the result depends on.
        models: Of each row the version of the model that it depends on; by default rows depend on none.
    """
    start = _join(hash_values(code_version)[:_PART_DIGITS], hash_values(settings or {})[:_PART_DIGITS])
    by_row = models if models is not None else [""] * rows.num_rows
    starts = {model: _join(start, hash_values(model)[:_PART_DIGITS], "") for model in set(by_row)}
    values = [rows.column(name).to_pylist() for name in columns]
    prints = [
        starts[model] + hash_values(*row)[:_INPUT_DIGITS]
        for model, row in zip(by_row, zip(*values, strict=True), strict=True)
    ]
    return rows.append_column(pa.field("fingerprint", pa.string(), nullable=False), pa.array(prints, pa.string()))


def _join(*parts: str) -> str:
    return _SEPARATOR.join(parts)


def name_difference(held: str, wanted: str) -> str:
    """Return why a row is stale: the first of `PARTS` in which its fingerprint differs from the wanted one.

    The first, because a change of one part brings changes of those after it: another model gives other inputs further
    down. A fingerprint in another form was written by another version of the code.

    Args:
        held: The fingerprint that the row carries.
        wanted: Another one, of the same row, that it should carry.
    """
    pairs = list(zip(held.split(_SEPARATOR), wanted.split(_SEPARATOR), strict=False))
    if len(pairs) < len(PARTS):
        return CODE
    return next(part for part, (one, other) in zip(PARTS, pairs, strict=False) if one != other)


def carry_fingerprints(rows: pa.Table, stale: pa.Table, row_key: str) -> pa.Table:
    """Return computed rows with the fingerprints of the stale rows that they were computed from.

    Args:
        rows: Any number of rows per key, without a fingerprint.
        stale: One row per key: `row_key, fingerprint`.
        row_key: Name of the key column.
    """
    prints = dict(zip(stale.column(row_key).to_pylist(), stale.column("fingerprint").to_pylist(), strict=True))
    column = pa.array([prints[key] for key in rows.column(row_key).to_pylist()], pa.string())
    return rows.append_column(pa.field("fingerprint", pa.string(), nullable=False), column)
