"""The templates in deploy/: what they say, and what becomes of it on a local AWS as far as that builds it."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cfnlint.decode import cfn_yaml

from adapters.event_queue import QueueDepth, SqsQueue
from adapters.settings import CHECKOUT
from lakehouse.landing_events import LandingEvent, locate_in_lake, parse_message
from tests.contracts.aws_server import REGION, AwsServer, start_aws_server

TEMPLATE = CHECKOUT / "deploy" / "arrivals.yaml"
DAY_S = 86_400
BUCKET_ARN = {"Fn::Sub": "arn:${AWS::Partition}:s3:::${BucketName}"}
EVENTS = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*", "s3:LifecycleExpiration:*"]


@pytest.fixture(scope="module")
def template() -> Any:
    return cfn_yaml.load(str(TEMPLATE))


@pytest.fixture(scope="module")
def resources(template: Any) -> Any:
    return template["Resources"]


def list_statements(resources: Any, policy: str) -> dict[str, Any]:
    return {statement["Sid"]: statement for statement in resources[policy]["Properties"]["PolicyDocument"]["Statement"]}


def test_the_linter_of_cloudformation_finds_nothing() -> None:
    linter = Path(sys.executable).with_name("cfn-lint")
    found = subprocess.run(
        [linter, "--include-checks", "I", "--regions", REGION, "--", TEMPLATE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_the_stack_holds_what_arrivals_need_and_nothing_else(resources: Any) -> None:
    assert {name: resource["Type"] for name, resource in resources.items()} == {
        "DeadLetters": "AWS::SQS::Queue",
        "Arrivals": "AWS::SQS::Queue",
        "ArrivalsPolicy": "AWS::SQS::QueuePolicy",
        "DeadLettersPolicy": "AWS::SQS::QueuePolicy",
        "Bucket": "AWS::S3::Bucket",
        "BucketPolicy": "AWS::S3::BucketPolicy",
        "DeadLettersAlarm": "AWS::CloudWatch::Alarm",
        "AgeAlarm": "AWS::CloudWatch::Alarm",
    }


def test_a_message_is_kept_for_14_days_and_tried_five_times_two_minutes_apart(resources: Any) -> None:
    queue = resources["Arrivals"]["Properties"]
    assert queue["MessageRetentionPeriod"] == 14 * DAY_S
    assert queue["VisibilityTimeout"] == 120
    assert queue["RedrivePolicy"] == {
        "deadLetterTargetArn": {"Fn::GetAtt": ["DeadLetters", "Arn"]},
        "maxReceiveCount": 100,
    }
    assert resources["DeadLetters"]["Properties"]["MessageRetentionPeriod"] == 14 * DAY_S


@pytest.mark.parametrize("queue", ["Arrivals", "DeadLetters"])
def test_both_queues_are_encrypted_at_rest(resources: Any, queue: str) -> None:
    assert resources[queue]["Properties"]["SqsManagedSseEnabled"] is True


def test_only_s3_sends_and_only_from_the_bucket_of_this_account(resources: Any) -> None:
    statements = list_statements(resources, "ArrivalsPolicy")
    assert [statement["Sid"] for statement in statements.values() if statement["Effect"] == "Allow"] == [
        "TheBucketSends"
    ]
    allowed = statements["TheBucketSends"]
    assert allowed["Principal"] == {"Service": "s3.amazonaws.com"}
    assert allowed["Action"] == "sqs:SendMessage"
    assert allowed["Condition"] == {
        "ArnEquals": {"aws:SourceArn": BUCKET_ARN},
        "StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}},
    }
    denied = statements["NobodyElseSends"]
    assert (denied["Effect"], denied["Principal"], denied["Action"]) == ("Deny", "*", "sqs:SendMessage")
    assert denied["Condition"] == {"ArnNotEquals": {"aws:SourceArn": BUCKET_ARN}}


@pytest.mark.parametrize(
    ("policy", "action"),
    [("ArrivalsPolicy", "sqs:*"), ("DeadLettersPolicy", "sqs:*"), ("BucketPolicy", "s3:*")],
)
def test_nobody_speaks_to_queues_and_bucket_without_tls(resources: Any, policy: str, action: str) -> None:
    denied = list_statements(resources, policy)["OnlyOverTls"]
    assert (denied["Effect"], denied["Principal"], denied["Action"]) == ("Deny", "*", action)
    assert denied["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


@pytest.mark.parametrize("queue", ["Arrivals", "DeadLetters"])
def test_each_policy_stands_on_its_own_queue(resources: Any, queue: str) -> None:
    assert resources[f"{queue}Policy"]["Properties"]["Queues"] == [{"Ref": queue}]
    for statement in list_statements(resources, f"{queue}Policy").values():
        assert statement["Resource"] == {"Fn::GetAtt": [queue, "Arn"]}


def test_the_bucket_tells_of_objects_below_landing_alone(resources: Any) -> None:
    told = resources["Bucket"]["Properties"]["NotificationConfiguration"]
    assert list(told) == ["QueueConfigurations"]
    assert [configuration["Event"] for configuration in told["QueueConfigurations"]] == EVENTS
    for configuration in told["QueueConfigurations"]:
        assert configuration["Queue"] == {"Fn::GetAtt": ["Arrivals", "Arn"]}
        (rule,) = configuration["Filter"]["S3Key"]["Rules"]
        assert rule == {"Name": "prefix", "Value": {"Fn::Sub": "${LakePrefix}landing/"}}


def test_the_bucket_is_made_once_the_queue_lets_it_in_and_outlives_the_stack(resources: Any) -> None:
    bucket = resources["Bucket"]
    assert bucket["DependsOn"] == "ArrivalsPolicy"
    assert (bucket["DeletionPolicy"], bucket["UpdateReplacePolicy"]) == ("Retain", "Retain")
    assert bucket["Condition"] == resources["BucketPolicy"]["Condition"] == "CreatesBucket"


def test_the_bucket_is_encrypted_and_closed_to_the_public(resources: Any) -> None:
    bucket = resources["Bucket"]["Properties"]
    (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(bucket["PublicAccessBlockConfiguration"]) == 4
    assert bucket["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]


def test_what_cannot_be_read_and_what_nobody_drains_raises_an_alarm(resources: Any) -> None:
    dead, age = resources["DeadLettersAlarm"]["Properties"], resources["AgeAlarm"]["Properties"]
    assert (dead["MetricName"], dead["Threshold"]) == ("ApproximateNumberOfMessagesVisible", 0)
    assert dead["Dimensions"] == [{"Name": "QueueName", "Value": {"Fn::GetAtt": ["DeadLetters", "QueueName"]}}]
    assert (age["MetricName"], age["Threshold"]) == ("ApproximateAgeOfOldestMessage", 900)
    assert age["Dimensions"] == [{"Name": "QueueName", "Value": {"Fn::GetAtt": ["Arrivals", "QueueName"]}}]
    for alarm in (dead, age):
        assert (alarm["Namespace"], alarm["Statistic"]) == ("AWS/SQS", "Maximum")
        assert alarm["ComparisonOperator"] == "GreaterThanThreshold"
        assert alarm["TreatMissingData"] == "notBreaching"
        assert alarm["AlarmActions"]["Fn::If"] == ["HasAlarmTopic", [{"Ref": "AlarmTopicArn"}], {"Ref": "AWS::NoValue"}]


@pytest.mark.parametrize("prefix", ["", "north/", "farms/north-1/"])
def test_a_lakes_prefix_is_accepted(template: Any, prefix: str) -> None:
    assert re.fullmatch(template["Parameters"]["LakePrefix"]["AllowedPattern"], prefix)


@pytest.mark.parametrize("prefix", ["/", "north", "/north/", "north//", 'a"}/', "a'; b/", "a b/"])
def test_what_is_no_prefix_or_would_break_the_command_is_refused(template: Any, prefix: str) -> None:
    assert not re.fullmatch(template["Parameters"]["LakePrefix"]["AllowedPattern"], prefix)


@pytest.fixture(scope="module")
def aws_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsServer]:
    with start_aws_server(tmp_path_factory.mktemp("aws")) as server, pytest.MonkeyPatch.context() as environment:
        for name, value in server.environment.items():
            environment.setenv(name, value)
        yield server


def deploy(server: AwsServer, stack: str, **parameters: str) -> dict[str, str]:
    """Create a stack and return its outputs."""
    cloudformation = server.open_client("cloudformation")
    cloudformation.create_stack(
        StackName=stack,
        TemplateBody=TEMPLATE.read_text(),
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()],
    )
    outputs = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["Outputs"]
    return {output["OutputKey"]: output["OutputValue"] for output in outputs}


def set_notifications(server: AwsServer, command: str) -> Any:
    """Do what a command of the AWS CLI says, and return the notifications that it sets."""
    program, service, action, *options = shlex.split(command)
    assert (program, service, action) == ("aws", "s3api", "put-bucket-notification-configuration")
    values = dict(zip(options[::2], options[1::2], strict=True))
    notifications = json.loads(values.pop("--notification-configuration"))
    server.open_client("s3").put_bucket_notification_configuration(
        Bucket=values.pop("--bucket"),
        ExpectedBucketOwner=values.pop("--expected-bucket-owner"),
        NotificationConfiguration=notifications,
    )
    assert values == {}
    return notifications


def read_events(queue: SqsQueue) -> list[LandingEvent]:
    events: list[LandingEvent] = []
    while messages := queue.receive():
        events += [event for message in messages for event in parse_message(message.body)]
        queue.delete(messages)
    return events


def test_queues_and_bucket_come_up_with_their_settings(aws_server: AwsServer) -> None:
    outputs = deploy(aws_server, "whole", BucketName="whole-lake")
    client = aws_server.open_client("sqs")
    queue, dead = (
        client.get_queue_attributes(QueueUrl=outputs[name], AttributeNames=["All"])["Attributes"]
        for name in ("QueueUrl", "DeadLettersUrl")
    )
    assert (queue["QueueArn"], dead["QueueArn"]) == (outputs["QueueArn"], outputs["DeadLettersArn"])
    assert queue["VisibilityTimeout"] == "120"
    assert queue["MessageRetentionPeriod"] == dead["MessageRetentionPeriod"] == str(14 * DAY_S)
    assert queue["SqsManagedSseEnabled"] == dead["SqsManagedSseEnabled"] == "true"
    assert json.loads(queue["RedrivePolicy"]) == {"deadLetterTargetArn": dead["QueueArn"], "maxReceiveCount": 100}
    encryption = aws_server.open_client("s3").get_bucket_encryption(Bucket="whole-lake")
    (rule,) = encryption["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"


def test_a_bucket_that_exists_is_left_alone_and_told_by_a_command_what_the_stacks_own_is_told(
    aws_server: AwsServer,
) -> None:
    s3 = aws_server.open_client("s3")
    s3.create_bucket(Bucket="old-lake")
    outputs = deploy(aws_server, "old", BucketName="old-lake", CreateBucket="false", LakePrefix="north/")
    listed = aws_server.open_client("cloudformation").list_stack_resources(StackName="old")["StackResourceSummaries"]
    assert not {"Bucket", "BucketPolicy"} & {resource["LogicalResourceId"] for resource in listed}
    (told,) = set_notifications(aws_server, outputs["NotificationCommand"])["QueueConfigurations"]
    assert told["QueueArn"] == outputs["QueueArn"]
    assert told["Events"] == EVENTS
    assert told["Filter"] == {"Key": {"FilterRules": [{"Name": "prefix", "Value": "north/landing/"}]}}
    (kept,) = s3.get_bucket_notification_configuration(Bucket="old-lake")["QueueConfigurations"]
    assert kept["Events"] == EVENTS


def test_objects_that_are_written_and_deleted_below_landing_are_events_that_can_be_read(aws_server: AwsServer) -> None:
    outputs = deploy(aws_server, "events", BucketName="event-lake", LakePrefix="north/")
    # Here CloudFormation makes the bucket without its notifications.
    set_notifications(aws_server, outputs["NotificationCommand"])
    queue = SqsQueue(outputs["QueueUrl"])
    assert queue.measure() == QueueDepth(waiting=1, in_flight=0, delayed=0, dead=0)
    assert read_events(queue) == []  # it was S3's test event

    s3 = aws_server.open_client("s3")
    keys = ["landing/phone/2026/11/02/a.jpg", "landing/phone/a b+c%20d/Äpfel 🐄.jpg"]
    for key in keys:
        s3.put_object(Bucket="event-lake", Key=f"north/{key}", Body=b"12345")
    s3.put_object(Bucket="event-lake", Key="north/raw/ab/abc", Body=b"not in landing")
    s3.put_object(Bucket="event-lake", Key=keys[0], Body=b"of no lake")
    written = read_events(queue)
    assert sorted(filter(None, (locate_in_lake(event, "event-lake", "north", "landing/") for event in written))) == keys
    assert {(event.is_removal, event.size_bytes) for event in written} == {(False, 5)}

    s3.delete_object(Bucket="event-lake", Key=f"north/{keys[1]}")
    s3.delete_objects(Bucket="event-lake", Delete={"Objects": [{"Key": f"north/{keys[0]}"}]})
    removed = read_events(queue)
    assert sorted(event.key for event in removed) == [f"north/{key}" for key in keys]
    assert {event.is_removal for event in removed} == {True}
    assert queue.measure() == QueueDepth(0, 0, 0, 0)


def test_an_upload_in_parts_and_a_copy_are_events_too(aws_server: AwsServer) -> None:
    outputs = deploy(aws_server, "parts", BucketName="part-lake")
    set_notifications(aws_server, outputs["NotificationCommand"])
    s3, queue, place = aws_server.open_client("s3"), SqsQueue(outputs["QueueUrl"]), {"Bucket": "part-lake"}
    upload = {"Key": "landing/phone/parts.jpg", **place}
    upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
    part = s3.upload_part(PartNumber=1, Body=b"12345", **upload)
    s3.complete_multipart_upload(MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}, **upload)
    s3.copy_object(Key="landing/phone/copy.jpg", CopySource="part-lake/landing/phone/parts.jpg", **place)
    # The upload may be told of twice.
    assert {(event.key, event.size_bytes) for event in read_events(queue)} == {
        ("landing/phone/copy.jpg", 5),
        ("landing/phone/parts.jpg", 5),
    }
