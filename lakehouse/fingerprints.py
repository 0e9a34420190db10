"""Row fingerprints: what a row was computed from, in one short hash.

A row is stale when the fingerprint that would be computed now differs from the one it carries. Nothing else decides
whether work is done: not clocks, not run histories.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa


def hash_values(*values: object) -> str:
    """Return 32 hex digits over the values, in order; dates, times and numbers count by what they print as."""
    encoded = json.dumps(values, default=str, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return hashlib.blake2b(encoded.encode(), digest_size=16).hexdigest()


def with_fingerprints(
    rows: pa.Table, columns: Sequence[str], code_version: str, settings: Mapping[str, Any] | None = None
) -> pa.Table:
    """Return the rows with a `fingerprint` column over some of their columns.

    Args:
        rows: Any table without a column `fingerprint`.
        columns: The columns that the computation reads.
        code_version: Version of the computation; raising it makes every row stale.
        settings: Settings that the result depends on.
    """
    context = hash_values(code_version, settings or {})
    values = [rows.column(name).to_pylist() for name in columns]
    prints = [hash_values(context, *row) for row in zip(*values, strict=True)]
    return rows.append_column(pa.field("fingerprint", pa.string(), nullable=False), pa.array(prints, pa.string()))


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
