"""Sources: who lands images, on what terms, and what a producer's sidecar says of one image.

The terms of a source stand in `farmy.toml`; a sidecar, `<name>.json` beside the image `<name>`, says otherwise for one
image. A sidecar that cannot be used is a reason in its image's row and never an error: the terms of the source hold.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Literal, get_args

Consent = Literal["granted", "not_required", "unknown", "withdrawn"]
SidecarProblem = Literal["too_large", "not_json", "not_an_object", "bad_licence", "bad_consent", "bad_retain_until"]
Withdrawal = Literal["object_deleted", "consent_withdrawn"]

SIDECAR_SUFFIX = ".json"
MAX_SIDECAR_BYTES = 65_536
UNKNOWN = "unknown"
_MAX_LICENCE_LETTERS = 200
_SOURCE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MAX_RETENTION_DAYS = 36_525


@dataclass(frozen=True)
class Source:
    """Who lands images, and on what terms unless a sidecar says otherwise.

    Attributes:
        name: First folder below landing/: lower case letters, digits, - and _.
        licence: Under which the images come.
        consent: Whether those who are shown, or who took the pictures, agreed.
        retention_days: How many days after its arrival an image may be kept; None for as long as it is of use.
        keeps_deleted: Whether its images stay when their objects are deleted from landing, as where a lifecycle rule
            clears it; otherwise a deleted object takes its image back.
    """

    name: str
    licence: str = UNKNOWN
    consent: Consent = "unknown"
    retention_days: int | None = None
    keeps_deleted: bool = False

    def __post_init__(self) -> None:
        if not _SOURCE_NAME.fullmatch(self.name):
            raise ValueError(f"the source {self.name!r} is not lower case letters, digits, - and _")
        if self.consent not in get_args(Consent):
            raise ValueError(
                f"the consent {self.consent!r} of {self.name} is not one of {', '.join(get_args(Consent))}"
            )
        if self.retention_days is not None and not 1 <= self.retention_days <= _MAX_RETENTION_DAYS:
            raise ValueError(
                f"the retention of {self.name}, {self.retention_days} days, is not from 1 to {_MAX_RETENTION_DAYS}: "
                "leave it out for images that may be kept for ever"
            )


@dataclass(frozen=True)
class Terms:
    """On what terms one image is here.

    Attributes:
        licence: Under which it comes.
        consent: Whether those concerned agreed.
        retain_until: The last UTC date on which it may be kept; None for as long as it is of use.
        problem: Why its sidecar could not be used; None if it could, or there is none.
    """

    licence: str
    consent: Consent
    retain_until: date | None
    problem: SidecarProblem | None = None


@dataclass(frozen=True)
class Sidecar:
    """What a producer says of one image; None where it says nothing.

    Attributes:
        licence: Under which it comes.
        consent: Whether those concerned agreed.
        retain_until: The last UTC date on which it may be kept.
        others: All other fields, as they were written.
    """

    licence: str | None = None
    consent: Consent | None = None
    retain_until: date | None = None
    others: Mapping[str, Any] = field(default_factory=dict)


class SidecarError(Exception):
    """A sidecar cannot be used. Never leaves this package: a bad sidecar is a reason in a row.

    Attributes:
        problem: Why.
    """

    def __init__(self, problem: SidecarProblem) -> None:
        super().__init__(problem)
        self.problem = problem


def find_subject(key: str) -> str:
    """Return the key of the image that an object is about: itself, or of a sidecar the image beside it."""
    while is_sidecar(key):
        key = key.removesuffix(SIDECAR_SUFFIX)
    return key


def is_sidecar(key: str) -> bool:
    """Tell whether an object of landing is a sidecar, whether or not its image is there."""
    return key.endswith(SIDECAR_SUFFIX)


def parse_sidecar(text: str) -> Sidecar:
    """Return what a sidecar says.

    Args:
        text: A JSON object. `licence`, `consent` and `retain_until` (ISO 8601 date) have a meaning; all else is kept.

    Raises:
        SidecarError: If it is not such an object.
    """
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SidecarError("not_json") from error
    if not isinstance(fields, dict):
        raise SidecarError("not_an_object")
    licence, consent, retain_until = (fields.pop(name, None) for name in ("licence", "consent", "retain_until"))
    if licence is not None and not _is_licence(licence):
        raise SidecarError("bad_licence")
    if consent is not None and consent not in get_args(Consent):
        raise SidecarError("bad_consent")
    return Sidecar(licence, consent, _parse_date(retain_until), fields)


def _is_licence(value: object) -> bool:
    # What cannot be printed, such as half a character, no table holds either.
    return isinstance(value, str) and 0 < len(value) <= _MAX_LICENCE_LETTERS and value.isprintable()


def _parse_date(value: object) -> date | None:
    if value is None:
        return None
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        raise SidecarError("bad_retain_until")
    try:
        return date.fromisoformat(value)
    except ValueError as error:
        raise SidecarError("bad_retain_until") from error


def find_terms(source: Source, *, has_sidecar: bool, sidecar_json: str | None, ingest_date: date) -> Terms:
    """Return the terms of one image: what its sidecar says, else what its source says.

    Args:
        source: Who landed it.
        has_sidecar: Whether there is a sidecar.
        sidecar_json: Its text; None if there is none, or it was too large to be read.
        ingest_date: The day on which the image arrived.
    """
    problem: SidecarProblem | None = "too_large" if has_sidecar and sidecar_json is None else None
    sidecar = Sidecar()
    try:
        sidecar = sidecar if sidecar_json is None else parse_sidecar(sidecar_json)
    except SidecarError as error:
        problem = error.problem
    days = source.retention_days
    return Terms(
        sidecar.licence or source.licence,
        sidecar.consent or source.consent,
        sidecar.retain_until or (None if days is None else ingest_date + timedelta(days=days)),
        problem,
    )
