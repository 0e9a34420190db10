"""Every error that Farmy raises on purpose.

    FarmyError
    ├── PermanentError              trying again cannot help: somebody has to change something
    │   ├── SettingsError           a setting is missing or invalid
    │   ├── QueryError              SQL that cannot be carried out
    │   ├── ModelFileError          model weights are missing or not the ones that were expected
    │   ├── UnusableObjectError     an object that cannot be taken in as it is: its size or its key
    │   ├── AccessRefusedError      a place answered and does not let us read or write there
    │   ├── LabelStudioRefusedError Label Studio answered, and refused (wrong token, invalid labelling interface)
    │   ├── FetchRefusedError       what a URL leads to is forbidden, not there, too large or no image
    │   ├── NotFoundError           an image, release, model or object that does not exist
    │   ├── UnreadableEventError    a message of the event queue that tells of nothing that S3 sends
    │   ├── ReleaseExistsError      a release of that name exists with other content
    │   └── SchemaMismatchError     rows that do not fit the table they were meant for
    └── TransientError              the outside world failed: the same call may work later
        ├── StorageError            an object or table could not be read or written
        ├── DayChangedError         another run committed the day first: read again and compute again
        ├── QueueUnavailableError   the event queue does not answer, or answers that it cannot now
        ├── FetchFailedError        a URL's server fails, is too slow or cannot be found
        ├── LabelStudioUnavailableError  Label Studio does not answer, or answers 5xx
        ├── ServerStartError        a server that Farmy starts did not come up
        └── AlertError              an alert of a failed run was not taken by its receiver

A message says what was attempted, on what, what was found, and what to do next. Adapters translate vendor errors
(`raise ... from error`); a bad image is never an error but a verdict, so it has no class here.
"""

from collections.abc import Sequence


class FarmyError(Exception):
    """Base of every error raised on purpose; its message is fit to be shown to a user as it is."""


class PermanentError(FarmyError):
    """Trying again cannot help."""


class TransientError(FarmyError):
    """The same call may succeed later."""


class SettingsError(PermanentError):
    """A setting is missing or invalid."""


class QueryError(PermanentError):
    """SQL that cannot be carried out."""


class ModelFileError(PermanentError):
    """Model weights are missing or are not the ones that were expected."""


class UnusableObjectError(PermanentError):
    """An object cannot be taken in as it is: its size or its key does not let it."""


class AccessRefusedError(PermanentError):
    """A place answered and does not let us read or write there."""


class LabelStudioRefusedError(PermanentError):
    """Label Studio answered and refused the request."""


class FetchRefusedError(PermanentError):
    """What a URL leads to is forbidden, not there, too large or no image."""


class NotFoundError(PermanentError):
    """Something was asked for by name that does not exist."""


class UnreadableEventError(PermanentError):
    """A message of the event queue has no shape in which S3 tells of objects, or a field that makes no sense."""


class ReleaseExistsError(PermanentError):
    """A release of that name exists with other content."""


class SchemaMismatchError(PermanentError):
    """Rows do not fit the table that they were meant for."""


class StorageError(TransientError):
    """An object or a table could not be read or written."""


class DayChangedError(TransientError):
    """Another run committed the day between our reading and our commit."""


class QueueUnavailableError(TransientError):
    """The event queue does not answer, or answers that it cannot now."""


class FetchFailedError(TransientError):
    """A URL's server fails, is too slow or cannot be found."""


class LabelStudioUnavailableError(TransientError):
    """Label Studio does not answer or answers with a server error."""


class ServerStartError(TransientError):
    """A server that Farmy starts did not come up."""


class AlertError(TransientError):
    """An alert of a failed run was not taken by its receiver."""


def find_outage(failures: Sequence[FarmyError], items: int) -> FarmyError | None:
    """Return the failure that stands for all, if it is not the items that fail but what they are read from.

    That is so where none of several items could be read, each for a reason that lies outside of it.

    Args:
        failures: Why items could not be read, one for each.
        items: How many there are, with those that could be read.
    """
    outside = [failure for failure in failures if not isinstance(failure, UnusableObjectError)]
    return outside[0] if len(outside) == items > 1 else None
