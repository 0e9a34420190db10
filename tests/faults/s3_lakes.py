"""Lakes in a bucket: a producer whose bucket tells a queue what lands, and the daemon's work, done in this process.

The objects are in a real S3, which sends no events; the same keys go to a second one that sends them, as Amazon's does.
"""

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg
import obstore
from obstore.store import S3Store

from adapters import inbox
from adapters.event_queue import SqsQueue
from adapters.lake import Lake
from benchmarks.s3_server import BUCKET, S3Server
from farmy_assets.definitions import build_definitions
from lakehouse.errors import FarmyError
from tests.contracts.aws_server import AwsServer
from tests.graph.lakes import IMAGE_TABLES, open_lake

VISIBILITY_S = 2
"""Messages that a tick received and did not delete come again after this."""
_MAX_RECEIVES = 50
_RUN_REPEATS = 2
_WORK_SECONDS = 300


@dataclass(frozen=True)
class Place:
    """Where one lake lives.

    Attributes:
        s3: The S3 that keeps its objects.
        aws: The servers of its events and its queue.
        name: Prefix of the bucket, and name of the queue.
    """

    s3: S3Server
    aws: AwsServer
    name: str

    @property
    def root(self) -> str:
        """The lake's `FARMY_OBJECTS`."""
        return f"s3://{BUCKET}/{self.name}"

    @cached_property
    def queue_url(self) -> str:
        """The lake's `FARMY_QUEUE_URL`: a queue that hears of what lands, with a dead-letter queue."""
        sqs, s3 = self.aws.open_client("sqs"), self.aws.open_client("s3")
        policy = {"deadLetterTargetArn": _find_arn(sqs, self.dead_letter_url), "maxReceiveCount": str(_MAX_RECEIVES)}
        attributes = {"VisibilityTimeout": str(VISIBILITY_S), "RedrivePolicy": json.dumps(policy)}
        url = str(sqs.create_queue(QueueName=self.name, Attributes=attributes)["QueueUrl"])
        s3.create_bucket(Bucket=BUCKET)
        events = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]
        prefix = {"Key": {"FilterRules": [{"Name": "prefix", "Value": f"{self.name}/landing/"}]}}
        queue = {"QueueArn": _find_arn(sqs, url), "Events": events, "Filter": prefix}
        s3.put_bucket_notification_configuration(
            Bucket=BUCKET, NotificationConfiguration={"QueueConfigurations": [queue]}
        )
        return url

    @cached_property
    def dead_letter_url(self) -> str:
        return str(self.aws.open_client("sqs").create_queue(QueueName=f"{self.name}-dead")["QueueUrl"])

    def count_messages(self) -> int:
        """Return how many messages are in the queue, whether or not they can be received now."""
        depth = SqsQueue(self.queue_url).measure()
        return depth.waiting + depth.in_flight + depth.delayed

    def read_dead_letters(self) -> dict[str, str | None]:
        """Return the reason of each message in the dead-letter queue, by its body."""
        response = self.aws.open_client("sqs").receive_message(
            QueueUrl=self.dead_letter_url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], VisibilityTimeout=0
        )
        return {
            message["Body"]: message.get("MessageAttributes", {}).get("reason", {}).get("StringValue")
            for message in response.get("Messages", [])
        }

    def open_lake(self, home: Path, endpoint: str | None = None, **overrides: Any) -> Lake:
        """Open the lake that hears of events, or with `queue_url=None` one over the same bucket that lists it.

        Args:
            home: Its home: its catalogue and so its tables.
            endpoint: Through what it reaches S3; directly if not given.
            **overrides: Other settings.
        """
        settings = {"queue_url": self.queue_url, "objects": self.root, "s3_endpoint": endpoint or self.s3.endpoint}
        return open_lake(home, **(settings | overrides))


def _find_arn(sqs: Any, url: str) -> str:
    return str(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"])


class Producer:
    """Puts objects into landing and deletes them there, and has the bucket tell of it, or not.

    Args:
        place: The lake's.
        source: Who it is.
    """

    def __init__(self, place: Place, source: str = "phone") -> None:
        self._place = place
        self._source = source
        self._events = place.aws.open_client("s3")
        self._queue = place.aws.open_client("sqs")
        self._store = S3Store(
            BUCKET,
            prefix=place.name,
            endpoint=place.s3.endpoint,
            access_key_id=place.s3.access_key_id,
            secret_access_key=place.s3.secret_access_key,
            region="us-east-1",
            virtual_hosted_style_request=False,
            client_options={"allow_http": True},
        )

    def put(self, name: str, data: bytes, *, is_heard_of: bool = True) -> str:
        """Land an object, in the place of one of that name, and return its key."""
        key = f"landing/{self._source}/{datetime.now(UTC):%Y/%m/%d}/{name}"
        obstore.put(self._store, key, data, use_multipart=False)
        if is_heard_of:
            self.tell_of(key, data)
        return key

    def delete(self, key: str, *, is_heard_of: bool = True) -> None:
        """Delete an object."""
        obstore.delete(self._store, key)
        if is_heard_of:
            self._events.delete_object(Bucket=BUCKET, Key=f"{self._place.name}/{key}")

    def tell_of(self, key: str, data: bytes) -> None:
        """Have the bucket say that an object was written."""
        self._events.put_object(Bucket=BUCKET, Key=f"{self._place.name}/{key}", Body=data)

    def send(self, body: str) -> None:
        """Put a message into the queue that the bucket never sent."""
        self._queue.send_message(QueueUrl=self._place.queue_url, MessageBody=body)


class Daemon:
    """What Dagster's daemon does for one lake: ticks of the sensor and the runs that they ask for, repeated on failure.

    Args:
        place: Where the lake lives.
        lake: The lake.
        instance: Where runs are recorded.

    Attributes:
        failures: What failed, by what it was.
        checks: Of each asset check of the newest run, whether it passed.
    """

    def __init__(self, place: Place, lake: Lake, instance: dg.DagsterInstance) -> None:
        self._place = place
        self._lake = lake
        self._instance = instance
        self._definitions = build_definitions(lake)
        self.failures: Counter[str] = Counter()
        self.checks: dict[str, bool] = {}

    def tick(self) -> Sequence[dg.RunRequest]:
        """Evaluate the arrivals sensor and return what it asks for.

        Raises:
            FarmyError: What failed in it.
        """
        context = dg.build_sensor_context(
            instance=self._instance, definitions=self._definitions, resources={"lake": self._lake}
        )
        sensor = self._definitions.resolve_sensor_def("arrivals_sensor")
        return sensor.evaluate_tick(context).run_requests or []

    def run(self, request: dg.RunRequest) -> bool:
        """Run what was asked for, and once more where it fails, as run retries do; tell whether it succeeded."""
        for _ in range(1 + _RUN_REPEATS):
            result = self._definitions.resolve_job_def("images_job").execute_in_process(
                instance=self._instance,
                partition_key=request.partition_key,
                tags=dict(request.tags),
                asset_selection=[dg.AssetKey(name) for name in IMAGE_TABLES],
                raise_on_error=False,
            )
            if result.success:
                self.checks = {each.check_name: each.passed for each in result.get_asset_check_evaluations()}
                return True
            self.failures["run"] += 1
        return False

    def reconcile(self) -> None:
        """Run the daily reconcile, and once more where it fails."""
        job = self._definitions.resolve_job_def("reconcile_job")
        for _ in range(1 + _RUN_REPEATS):
            if job.execute_in_process(instance=self._instance, raise_on_error=False).success:
                return
            self.failures["reconcile"] += 1
        raise AssertionError("The reconcile failed each time.")

    def work(self) -> None:
        """Tick and run until no message and no note waits."""
        deadline = time.monotonic() + _WORK_SECONDS
        while time.monotonic() < deadline:
            try:
                requests = self.tick()
            except FarmyError:
                self.failures["tick"] += 1
                continue
            for request in requests:
                self.run(request)
            if not requests and self._is_calm():
                return
            if not requests:
                time.sleep(0.1)  # until messages that were received before come again
        raise AssertionError(f"Something still waits after {_WORK_SECONDS} s; failures: {self.failures}.")

    def _is_calm(self) -> bool:
        return self._place.count_messages() == 0 and not inbox.list_days_with_arrivals(self._lake)


def read_tables(lake: Lake) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of the images' tables, in an order that their contents decide."""
    return {name: sorted(lake.tables.read(name).to_pylist(), key=repr) for name in IMAGE_TABLES}
