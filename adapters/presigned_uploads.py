"""Presigned uploads: a phone puts one image into landing itself and never sees a credential.

A form that S3 checks, not a presigned PUT: the signed policy of a form can limit the size, where a PUT has to be signed
for one exact length.
"""

import os
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from lakehouse.errors import SettingsError
from lakehouse.submissions import MAX_IMAGE_BYTES, build_upload_key, find_content_type

if TYPE_CHECKING:
    from botocore.client import BaseClient

MAX_DURATION = timedelta(hours=1)


@dataclass(frozen=True)
class PresignedUpload:
    """Leave to put one image into landing.

    Attributes:
        url: Where to post the form to.
        fields: Fields of the form, all of them; the image follows as `file`, after them.
        object_key: The key, below the lake's root, that the image will have.
        expires_at: Until when the form can be posted.
    """

    url: str
    fields: dict[str, str]
    object_key: str
    expires_at: datetime


class PresignedUploads:
    """Signs uploads into the landing of one bucket; nothing is asked of S3 for it.

    Args:
        bucket: The lake's bucket.
        prefix: Where in it the lake's root is; empty for the bucket itself.
        endpoint: Another S3 than Amazon's, as `http://host:port`.
        region: What that other S3 calls its region.
    """

    def __init__(
        self, bucket: str, prefix: str = "", *, endpoint: str | None = None, region: str = "us-east-1"
    ) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._s3 = _open_s3(endpoint, region)

    def create(self, source: str, name: str, *, is_valid_for: timedelta = timedelta(minutes=15)) -> PresignedUpload:
        """Return the form for one image of 1 to `MAX_IMAGE_BYTES` bytes, of the media type that its name says.

        The key is ours, with 128 random bits, so that no form reaches what another one put there. Until it expires the
        same form can be posted again, and replaces its own image.

        Args:
            source: Who lands the image.
            name: The image's file name, of which the suffix is kept.
            is_valid_for: Until when the form can be posted, at most `MAX_DURATION`.

        Raises:
            ValueError: If the source's name, the suffix or the duration is not allowed.
            SettingsError: If there are no credentials to sign with.
        """
        from botocore.exceptions import BotoCoreError

        if not timedelta(0) < is_valid_for <= MAX_DURATION:
            raise ValueError(f"an upload is valid for up to {MAX_DURATION}, not for {is_valid_for}")
        now = datetime.now(UTC)
        object_key = build_upload_key(source, now.date(), secrets.token_hex(16), name)
        content_type = {"Content-Type": find_content_type(name)}
        try:
            form = self._s3.generate_presigned_post(
                self._bucket,
                f"{self._prefix}{object_key}",
                Fields=content_type,
                Conditions=[content_type, ["content-length-range", 1, MAX_IMAGE_BYTES]],
                ExpiresIn=int(is_valid_for.total_seconds()),
            )
        except BotoCoreError as error:
            raise SettingsError(
                f"Could not sign an upload to the bucket {self._bucket}: {error}. Check the AWS_* variables."
            ) from error
        return PresignedUpload(form["url"], form["fields"], object_key, now + is_valid_for)


def _open_s3(endpoint: str | None, region: str) -> "BaseClient":
    import boto3
    from botocore.config import Config

    # By path at Amazon a bucket's own region is not addressed, and the form would be answered with a redirect. The
    # variable is the one that `Objects` reads the region from; boto3 knows AWS_DEFAULT_REGION alone.
    style, place = ("virtual", os.environ.get("AWS_REGION")) if endpoint is None else ("path", region)
    config = Config(signature_version="s3v4", s3={"addressing_style": style})
    session = boto3.Session(region_name=place)
    if session.get_credentials() is None:
        raise SettingsError(
            "There are no credentials to sign uploads with: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or say in "
            "another AWS_* variable who you are."
        )
    return session.client("s3", endpoint_url=endpoint, config=config)
