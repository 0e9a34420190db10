"""Uploads without credentials, on a real S3: what the form allows lands, and nothing else does."""

import base64
import json
import re
import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from pathlib import Path

import httpx
import obstore
import pytest
from obstore.store import S3Store

from adapters.objects import Objects
from adapters.presigned_uploads import PresignedUpload, PresignedUploads
from benchmarks.s3_server import BUCKET, S3Server
from cli.presign import build_curl_line
from lakehouse.errors import SettingsError
from lakehouse.submissions import MAX_IMAGE_BYTES
from tests.unit.cli.calls import call

IMAGE = b"\xff\xd8\xff" + bytes(range(256))
OTHER_BUCKET = "others"

prefixes = (f"uploads-{number}" for number in count())


@pytest.fixture
def prefix(s3: S3Server) -> Iterator[str]:
    """Where in the bucket this test's lake is; whatever it does, nothing lands in the other bucket."""
    other = S3Store(
        OTHER_BUCKET,
        endpoint=s3.endpoint,
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    obstore.put(other, "probe", b"", use_multipart=False)
    yield next(prefixes)
    assert [meta["path"] for chunk in obstore.list(other) for meta in chunk] == ["probe"]


@pytest.fixture
def objects(s3: S3Server, prefix: str) -> Objects:
    return Objects.in_bucket(f"s3://{BUCKET}/{prefix}", endpoint=s3.endpoint)


@pytest.fixture
def uploads(s3: S3Server, prefix: str) -> PresignedUploads:
    return PresignedUploads(BUCKET, prefix, endpoint=s3.endpoint)


def post(upload: PresignedUpload, data: bytes = IMAGE) -> httpx.Response:
    return httpx.post(upload.url, data=upload.fields, files={"file": ("leaf.jpg", data, "image/jpeg")}, timeout=60)


def list_keys(objects: Objects) -> list[str]:
    return [fact.key for fact in objects.list("landing/")]


def with_fields(upload: PresignedUpload, **fields: str) -> PresignedUpload:
    return replace(upload, fields=upload.fields | {name.replace("_", "-"): value for name, value in fields.items()})


def without_fields(upload: PresignedUpload, *names: str) -> PresignedUpload:
    return replace(upload, fields={name: value for name, value in upload.fields.items() if name not in names})


def change_policy(upload: PresignedUpload, change: Callable[[str], str]) -> PresignedUpload:
    policy = change(base64.b64decode(upload.fields["policy"]).decode())
    return with_fields(upload, policy=base64.b64encode(policy.encode()).decode())


def test_what_is_uploaded_lands_under_the_key_that_was_promised(uploads: PresignedUploads, objects: Objects) -> None:
    upload = uploads.create("phone", "leaf 1.JPG")
    assert post(upload).is_success
    assert objects.read(upload.object_key) == IMAGE
    assert re.fullmatch(rf"landing/phone/{datetime.now(UTC):%Y/%m/%d}/[0-9a-f]{{32}}\.jpg", upload.object_key), (
        upload.object_key
    )


def test_no_two_uploads_of_one_name_have_one_key(uploads: PresignedUploads, objects: Objects) -> None:
    first, second = uploads.create("phone", "leaf.jpg"), uploads.create("phone", "leaf.jpg")
    assert post(first, IMAGE + b"1").is_success
    assert post(second, IMAGE + b"2").is_success
    assert [objects.read(upload.object_key)[-1:] for upload in (first, second)] == [b"1", b"2"]


def test_an_upload_into_the_root_of_a_bucket_lands(s3: S3Server) -> None:
    upload = PresignedUploads(BUCKET, endpoint=s3.endpoint).create("phone", "leaf.jpg")
    assert post(upload).is_success
    objects = Objects.in_bucket(f"s3://{BUCKET}", endpoint=s3.endpoint)
    assert objects.read(upload.object_key) == IMAGE
    objects.delete([upload.object_key])


def tamper_with_credential(upload: PresignedUpload) -> PresignedUpload:
    return with_fields(upload, x_amz_credential=upload.fields["x-amz-credential"].replace("farmy-test", "stranger"))


def prolong(upload: PresignedUpload) -> PresignedUpload:
    return change_policy(upload, lambda policy: policy.replace('"expiration": "20', '"expiration": "30'))


TAMPERING: dict[str, Callable[[PresignedUpload], PresignedUpload]] = {
    "another key": lambda upload: with_fields(upload, key=upload.fields["key"].replace(".jpg", "0.jpg")),
    "another source's key": lambda upload: with_fields(upload, key=upload.fields["key"].replace("phone", "scraper")),
    "a key beside landing": lambda upload: with_fields(upload, key="raw/00/00"),
    "a key up the tree": lambda upload: with_fields(
        upload, key=upload.fields["key"].replace("landing/", "landing/../")
    ),
    "a sidecar's key": lambda upload: with_fields(upload, key=f"{upload.fields['key']}.json"),
    "a policy for another key": lambda upload: with_fields(
        change_policy(upload, lambda policy: policy.replace("phone", "scraper")),
        key=upload.fields["key"].replace("phone", "scraper"),
    ),
    "a policy without conditions": lambda upload: change_policy(
        upload, lambda policy: json.dumps({"expiration": json.loads(policy)["expiration"], "conditions": []})
    ),
    "a policy for larger images": lambda upload: change_policy(
        upload, lambda policy: policy.replace(str(MAX_IMAGE_BYTES), str(MAX_IMAGE_BYTES * 10))
    ),
    "a policy that lasts longer": prolong,
    "a policy that is none": lambda upload: with_fields(upload, policy="bm90aGluZw=="),
    "no policy": lambda upload: without_fields(upload, "policy"),
    "another signature": lambda upload: with_fields(upload, x_amz_signature="0" * 64),
    "no signature": lambda upload: without_fields(upload, "x-amz-signature"),
    "no fields but the key": lambda upload: replace(upload, fields={"key": upload.fields["key"]}),
    "another user's credential": tamper_with_credential,
    "another date": lambda upload: with_fields(upload, x_amz_date="20200101T000000Z"),
    "another media type": lambda upload: with_fields(upload, Content_Type="text/html"),
    "metadata that was not agreed": lambda upload: with_fields(upload, x_amz_meta_owner="me"),
    "another bucket": lambda upload: replace(upload, url=upload.url.removesuffix(BUCKET) + OTHER_BUCKET),
}


@pytest.mark.parametrize("tampering", TAMPERING)
def test_a_form_that_was_tampered_with_is_refused_and_stores_nothing(
    uploads: PresignedUploads, objects: Objects, tampering: str
) -> None:
    answer = post(TAMPERING[tampering](uploads.create("phone", "leaf.jpg")))
    assert answer.status_code in {400, 403}, answer.text
    assert list_keys(objects) == []


def test_the_forms_that_are_tampered_with_are_good_before(uploads: PresignedUploads) -> None:
    assert post(uploads.create("phone", "leaf.jpg")).status_code == 204


def test_a_form_signed_with_foreign_credentials_is_refused_and_stores_nothing(
    s3: S3Server, prefix: str, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another secret of somebody else")
    wrong_secret = PresignedUploads(BUCKET, prefix, endpoint=s3.endpoint).create("phone", "leaf.jpg")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAFOREIGN")
    unknown_user = PresignedUploads(BUCKET, prefix, endpoint=s3.endpoint).create("phone", "leaf.jpg")
    assert [post(form).status_code for form in (wrong_secret, unknown_user)] == [403, 403]
    assert list_keys(objects) == []


def test_a_form_that_expired_is_refused_and_stores_nothing(uploads: PresignedUploads, objects: Objects) -> None:
    upload = uploads.create("phone", "leaf.jpg", is_valid_for=timedelta(seconds=1))
    time.sleep(max(0.0, (upload.expires_at - datetime.now(UTC)).total_seconds()) + 1)
    answer = post(upload)
    assert answer.status_code == 403
    assert "expired" in answer.text
    assert list_keys(objects) == []


@pytest.mark.parametrize("data", [b"", bytes(MAX_IMAGE_BYTES + 1)], ids=["empty", "one byte more than allowed"])
def test_an_image_outside_the_sizes_is_refused_and_stores_nothing(
    uploads: PresignedUploads, objects: Objects, data: bytes
) -> None:
    answer = post(uploads.create("phone", "leaf.jpg"), data)
    assert answer.status_code == 400
    assert "EntityToo" in answer.text
    assert list_keys(objects) == []


def test_an_image_of_the_largest_size_lands(uploads: PresignedUploads, objects: Objects) -> None:
    assert post(uploads.create("phone", "leaf.jpg"), bytes(MAX_IMAGE_BYTES)).is_success
    assert [fact.size_bytes for fact in objects.list("landing/")] == [MAX_IMAGE_BYTES]


def test_the_policy_names_every_condition_that_s3_is_to_enforce(uploads: PresignedUploads, prefix: str) -> None:
    upload = uploads.create("phone", "leaf.png", is_valid_for=timedelta(minutes=5))
    policy = json.loads(base64.b64decode(upload.fields["policy"]))
    assert {"key": f"{prefix}/{upload.object_key}"} in policy["conditions"]
    assert {"bucket": BUCKET} in policy["conditions"]
    assert {"Content-Type": "image/png"} in policy["conditions"]
    assert ["content-length-range", 1, MAX_IMAGE_BYTES] in policy["conditions"]
    expiration = datetime.fromisoformat(policy["expiration"])
    assert abs(expiration - upload.expires_at) <= timedelta(seconds=1)
    assert timedelta(minutes=4) < expiration - datetime.now(UTC) <= timedelta(minutes=5)


@pytest.mark.parametrize(
    ("source", "name", "minutes", "message"),
    [
        ("../raw", "leaf.jpg", 5, "source"),
        ("phone/x", "leaf.jpg", 5, "source"),
        ("phone", "leaf.json", 5, "ends in none of"),
        ("phone", "leaf", 5, "ends in none of"),
        ("phone", "leaf.jpg/../x", 5, "ends in none of"),
        ("phone", "leaf.jpg", 0, "valid for up to"),
        ("phone", "leaf.jpg", 61, "valid for up to"),
    ],
)
def test_a_form_is_not_made_for_what_could_not_land(
    uploads: PresignedUploads, source: str, name: str, minutes: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        uploads.create(source, name, is_valid_for=timedelta(minutes=minutes))


def test_the_curl_line_posts_the_form_with_the_file(uploads: PresignedUploads) -> None:
    upload = uploads.create("phone", "my leaf.jpg")
    program, _, *words = shlex.split(build_curl_line(upload.url, upload.fields, 'my "leaf".jpg'))
    assert program == "curl"
    assert words[-1] == upload.url
    assert words[-3:-1] == ["--form", r'file=@"my \"leaf\".jpg"']
    assert words[1:-3:2] == [f"{name}={value}" for name, value in upload.fields.items()]
    assert set(words[:-3:2]) == {"--form-string"}


def test_without_credentials_nothing_is_signed(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "none")
    monkeypatch.setenv("AWS_CONFIG_FILE", "none")
    with pytest.raises(SettingsError, match="no credentials to sign uploads with"):
        PresignedUploads(BUCKET, endpoint=s3.endpoint)


@pytest.mark.parametrize(
    ("region", "url"),
    [("eu-west-1", "https://leaves.s3.eu-west-1.amazonaws.com/"), ("us-east-1", "https://leaves.s3.amazonaws.com/")],
)
def test_a_form_for_amazon_goes_to_the_bucket_in_its_own_region(
    region: str, url: str, monkeypatch: pytest.MonkeyPatch, s3: S3Server
) -> None:
    assert s3
    monkeypatch.setenv("AWS_REGION", region)
    upload = PresignedUploads("leaves").create("phone", "leaf.jpg")
    assert upload.url == url
    assert f"/{region}/s3/" in upload.fields["x-amz-credential"]


def test_the_command_prints_a_form_that_lands_an_image(
    s3: S3Server, prefix: str, objects: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "farmy.toml").write_text('[[classes]]\nid = "cow"\nname = "Cow"\n')
    monkeypatch.setenv("FARMY_CONFIG", str(tmp_path / "farmy.toml"))
    monkeypatch.setenv("FARMY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FARMY_OBJECTS", f"s3://{BUCKET}/{prefix}")
    monkeypatch.setenv("FARMY_S3_ENDPOINT", s3.endpoint)
    arguments = ("presign", "--source", "phone", "--name", "leaf.jpg", "--minutes", "5")
    form = call(*arguments, "--json").answer
    expires_at = datetime.fromisoformat(form["expires_at"])
    assert timedelta(minutes=4) < expires_at - datetime.now(UTC) <= timedelta(minutes=5)
    assert post(PresignedUpload(form["url"], form["fields"], form["object_key"], expires_at)).is_success
    assert list_keys(objects) == [form["object_key"]]

    shown = call(*arguments).out
    (line,) = [line for line in shown.splitlines() if line.startswith("curl ")]
    words = shlex.split(line)
    fields = dict(word.split("=", 1) for flag, word in pairwise(words) if flag == "--form-string")
    assert post(PresignedUpload(words[-1], fields, "", expires_at)).is_success
    assert fields["key"].removeprefix(f"{prefix}/") in list_keys(objects)
