"""Every error that Farmy raises on purpose.

    FarmyError
    ├── PermanentError              trying again cannot help: somebody has to change something
    │   ├── SettingsError           a setting is missing or invalid
    │   ├── QueryError              SQL that cannot be carried out
    │   ├── ModelFileError          model weights are missing or not the ones that were expected
    │   ├── LabelStudioRefusedError Label Studio answered, and refused (wrong token, invalid labelling interface)
    │   ├── NotFoundError           an image, release, model or object that does not exist
    │   ├── ReleaseExistsError      a release of that name exists with other content
    │   └── SchemaMismatchError     rows that do not fit the table they were meant for
    └── TransientError              the outside world failed: the same call may work later
        ├── StorageError            an object or table could not be read or written
        ├── DayChangedError         another run committed the day first: read again and compute again
        ├── LabelStudioUnavailableError  Label Studio does not answer, or answers 5xx
        └── ServerStartError        a server that Farmy starts did not come up

A message says what was attempted, on what, what was found, and what to do next. Adapters translate vendor errors
(`raise ... from error`); a bad image is never an error but a verdict, so it has no class here.
"""


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


class LabelStudioRefusedError(PermanentError):
    """Label Studio answered and refused the request."""


class NotFoundError(PermanentError):
    """Something was asked for by name that does not exist."""


class ReleaseExistsError(PermanentError):
    """A release of that name exists with other content."""


class SchemaMismatchError(PermanentError):
    """Rows do not fit the table that they were meant for."""


class StorageError(TransientError):
    """An object or a table could not be read or written."""


class DayChangedError(TransientError):
    """Another run committed the day between our reading and our commit."""


class LabelStudioUnavailableError(TransientError):
    """Label Studio does not answer or answers with a server error."""


class ServerStartError(TransientError):
    """A server that Farmy starts did not come up."""
