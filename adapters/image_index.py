"""Look-up by image: which arrival of an image was the first, in SQLite.

A projection of `raw_images` that can be dropped and rebuilt. Writes are conditional, so an older state never overwrites
a newer one whatever the order in which runs end.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from lakehouse.arrivals import FirstArrival
from lakehouse.errors import NotFoundError, StorageError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS first_arrivals (
    image_id TEXT PRIMARY KEY, arrival_id TEXT NOT NULL, ingest_date TEXT NOT NULL,
    landed_at_us INTEGER NOT NULL, object_key TEXT NOT NULL, is_withdrawn INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS submissions (
    image_id TEXT NOT NULL, object_key TEXT NOT NULL, PRIMARY KEY (image_id, object_key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS cursors (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
_CHUNK = 500


class ImageIndex:
    """The index of one lake.

    Args:
        path: SQLite file; made if it does not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._connection() as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.executescript(_SCHEMA)
            connection.execute("BEGIN IMMEDIATE")
            columns = {row[1] for row in connection.execute("PRAGMA table_info(first_arrivals)")}
            if "is_withdrawn" not in columns:  # made by an earlier version
                connection.execute("ALTER TABLE first_arrivals ADD COLUMN is_withdrawn INTEGER NOT NULL DEFAULT 0")
            connection.execute("COMMIT")

    def find_firsts(self, image_ids: Sequence[str]) -> dict[str, FirstArrival]:
        """Return the first arrival of each image that is known."""
        with self._connection() as connection:
            return _select_all_firsts(connection, image_ids)

    def record_firsts(self, firsts: Iterable[FirstArrival]) -> list[FirstArrival]:
        """Record first arrivals; of two for one image the earlier stays.

        Returns:
            Those that lost: recorded ones that an earlier one displaced, and given ones that came too late. Whoever
            holds them as first has to judge them again.
        """
        given = list(firsts)
        losers = []
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            known = _select_all_firsts(connection, [first.image_id for first in given])
            for first in given:
                held = known.get(first.image_id)
                is_other = held is not None and held.arrival_id != first.arrival_id
                if held is not None and is_other and held.order <= first.order:
                    losers.append(first)
                elif held != first:
                    _insert_first(connection, first)
                    known[first.image_id] = first
                    losers += [held] if held is not None and is_other else []
            connection.execute("COMMIT")
        return losers

    def replace_firsts(self, firsts: Iterable[FirstArrival]) -> None:
        """Rebuild the index from the first arrivals that the tables hold."""
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("DELETE FROM first_arrivals")
            for first in firsts:
                _insert_first(connection, first)
            connection.execute("COMMIT")

    def record_submission(self, image_id: str, object_key: str) -> None:
        """Remember that somebody submitted an image, so that its token is known before any run has seen it."""
        with self._connection() as connection:
            connection.execute("INSERT OR IGNORE INTO submissions VALUES (?, ?)", (image_id, object_key))

    def find_image(self, beginning: str) -> str:
        """Return the one image, landed or submitted, whose id begins so.

        Raises:
            NotFoundError: If there is none, or more than one.
        """
        # Ids are hexadecimal digits, so "g" follows every id that begins with these characters.
        span = (beginning.lower(), f"{beginning.lower()}g")
        with self._connection() as connection:
            found = connection.execute(
                "SELECT image_id FROM first_arrivals WHERE image_id >= ?1 AND image_id < ?2 UNION "
                "SELECT image_id FROM submissions WHERE image_id >= ?1 AND image_id < ?2 LIMIT 2",
                span,
            ).fetchall()
        if len(found) != 1:
            number = "No image's id begins" if not found else "More than one image's id begins"
            raise NotFoundError(f"{number} with {beginning}: give the token that `farmy submit` printed.")
        return str(found[0][0])

    def read_cursor(self, name: str) -> str | None:
        """Return how far something was followed; None if it never was."""
        with self._connection() as connection:
            row = connection.execute("SELECT value FROM cursors WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def write_cursor(self, name: str, value: str) -> None:
        """Remember how far something was followed. To forget it costs a longer look next time, and loses nothing."""
        with self._connection() as connection:
            connection.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?)", (name, value))

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = sqlite3.connect(self._path, timeout=60, isolation_level=None)
        except sqlite3.Error as error:
            raise StorageError(f"Cannot open the image index {self._path}: {error}. Check its folder.") from error
        try:
            yield connection
        except sqlite3.Error as error:
            raise StorageError(
                f"The image index {self._path} failed: {error}. Check that the disk has room; if the file is damaged, "
                "delete it and run `farmy reconcile`, which rebuilds it from the tables."
            ) from error
        finally:
            connection.close()


def _select_all_firsts(connection: sqlite3.Connection, image_ids: Sequence[str]) -> dict[str, FirstArrival]:
    found: dict[str, FirstArrival] = {}
    for start in range(0, len(image_ids), _CHUNK):
        found |= _select_firsts(connection, image_ids[start : start + _CHUNK])
    return found


def _select_firsts(connection: sqlite3.Connection, image_ids: Sequence[str]) -> dict[str, FirstArrival]:
    marks = ",".join("?" * len(image_ids))
    rows = connection.execute(
        f"SELECT image_id, arrival_id, ingest_date, landed_at_us, object_key, is_withdrawn FROM first_arrivals "  # noqa: S608
        f"WHERE image_id IN ({marks})",
        list(image_ids),
    )
    return {
        image_id: FirstArrival(
            image_id, arrival_id, date.fromisoformat(day), landed_at_us, object_key, bool(is_withdrawn)
        )
        for image_id, arrival_id, day, landed_at_us, object_key, is_withdrawn in rows
    }


def _insert_first(connection: sqlite3.Connection, first: FirstArrival) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO first_arrivals (image_id, arrival_id, ingest_date, landed_at_us, object_key, "
        "is_withdrawn) VALUES (?, ?, ?, ?, ?, ?)",
        (
            *(first.image_id, first.arrival_id, first.ingest_date.isoformat(), first.landed_at_us),
            *(first.object_key, first.is_withdrawn),
        ),
    )
