"""Speaking with a Label Studio server, ours or anyone's, through its HTTP API.

Plain HTTP rather than the vendor's SDK, which brings pandas along, takes five times as long to import, and leaves out
the parameters that make thousands of tasks quick (`include`, `in_list`). Starting a server is
`adapters.label_studio_server`; what answers mean is `lakehouse.annotations`.
"""

import re
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx

from lakehouse.annotations import Answer, ChangedTask, NewTask, OpenTask, PreLabel, TaskAnswers, build_choice
from lakehouse.errors import FarmyError, LabelStudioRefusedError, LabelStudioUnavailableError

_Item = TypeVar("_Item")

_TIMEOUT_S = 120
_IMPORT_CHUNK = 10_000
_FIND_CHUNK = 1_000
_READ_CHUNK = 500
_ACCESS_TOKEN_LIFE_S = 240
_WORDS_SHOWN = 500

# People are shown predictions of one version only, the project's. Ours all bear one name, so that a task keeps its
# pre-label when others get theirs from a newer model; which model it was stands in the table and in the mark's meta.
_PRE_LABEL_VERSION = "farmy"

_IMAGE_ID = "filter:tasks:data.image_id"
_ASSIGNEE = "filter:tasks:data.assignee"
_UPDATED_AT = "filter:tasks:updated_at"
_ANNOTATORS = "filter:tasks:annotators"

# Columns that an annotator has no use for; the server also computes what it must show for every task.
_HIDDEN_COLUMNS = [
    f"tasks:{name}"
    for name in (
        "inner_id", "annotations_results", "annotations_ids", "predictions_score", "predictions_model_versions",
        "predictions_results", "file_upload", "storage_filename", "created_at", "updated_at", "updated_by",
        "avg_lead_time", "draft_exists",
    )
]  # fmt: skip


def build_image_url(key: str, bucket: str | None = None) -> str:
    """Return what a task says its picture is.

    Args:
        key: Key of the picture; for local files its path below the server's image root.
        bucket: The S3 bucket it is in; None for local files.

    Returns:
        An address that Label Studio resolves, for signed-in people only, to the picture or a fresh presigned address.
    """
    return f"s3://{bucket}/{key}" if bucket else f"/data/local-files/?d={quote(key)}"


class LabelStudio:
    """A server, spoken to as one of its people. Safe to share among threads.

    Every method raises `LabelStudioUnavailableError` when the server does not answer or answers with a server error,
    and `LabelStudioRefusedError` when it refuses.

    Args:
        url: Address of the server.
        token: Access token of a person: either kind that Label Studio has.
    """

    def __init__(self, url: str, token: str) -> None:
        self._connection = _Connection(url, token)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"LabelStudio({self._connection.url!r})"

    @property
    def url(self) -> str:
        """Address of the server."""
        return self._connection.url

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def check(self) -> None:
        """Make sure that the server answers and knows the token."""
        self._connection.call("GET", "/api/current-user/whoami", attempt="sign in")

    def ensure_project(
        self, title: str, labelling_interface: str, staging_folder: Path | None = None, overlap: int = 1
    ) -> int:
        """Return the project of exactly this title, made if need be and brought to these settings.

        Args:
            title: 3 to 50 characters.
            labelling_interface: Label Studio's XML.
            staging_folder: Where local pictures are, below the server's image root; None when they are in S3.
            overlap: How many people answer each task.
        """
        wanted = {
            "label_config": labelling_interface,
            "maximum_annotations": overlap,
            "show_collab_predictions": True,
            "show_skip_button": True,
        }
        project = self._find_project(title)
        if project is None:
            project = self._connection.call(
                "POST", "/api/projects/", attempt=f"create project {title!r}", content={"title": title, **wanted}
            ).json()
        elif any(project[name] != value for name, value in wanted.items()):
            self._connection.call(
                "PATCH", f"/api/projects/{project['id']}/", attempt=f"update project {title!r}", content=wanted
            )
        if staging_folder is not None:
            self._ensure_storage(project["id"], staging_folder.resolve())
        return int(project["id"])

    def delete_project(self, project_id: int) -> None:
        """Delete a project with all its tasks and answers."""
        self._connection.call("DELETE", f"/api/projects/{project_id}/", attempt=f"delete project {project_id}")

    def find_tasks(self, project_id: int, image_ids: Sequence[str]) -> dict[str, int]:
        """Return image id to task id for those of the images that have a task; the oldest of several."""
        found: dict[str, int] = {}
        for chunk in _split(image_ids, _FIND_CHUNK):
            tasks = self._list_tasks(project_id, filters=[_build_filter(_IMAGE_ID, "in_list", "List", chunk)])
            for task in tasks:
                found.setdefault(task["data"]["image_id"], task["id"])
        return found

    def import_tasks(self, project_id: int, tasks: Sequence[NewTask]) -> dict[str, int]:
        """Create tasks and return image id to task id. The server never notices doubles: find first."""
        created: dict[str, int] = {}
        for chunk in _split(tasks, _IMPORT_CHUNK):
            attempt = f"import {len(chunk)} tasks into project {project_id}"
            answer = self._connection.call(
                "POST",
                f"/api/projects/{project_id}/import",
                attempt=attempt,
                parameters={"return_task_ids": "true"},
                content=[{"data": _build_task_data(task)} for task in chunk],
            ).json()
            task_ids = answer.get("task_ids", [])
            self._compare(attempt, len(chunk), len(task_ids))
            created |= {task.image_id: task_id for task, task_id in zip(chunk, task_ids, strict=True)}
        return created

    def delete_tasks(self, project_id: int, task_ids: Sequence[int]) -> None:
        """Delete tasks with all their answers and guesses; those that are gone are passed over."""
        for chunk in _split(task_ids, _FIND_CHUNK):
            self._act_on_tasks(project_id, "delete_tasks", chunk, f"delete {len(chunk)} tasks of project {project_id}")

    def list_changed_tasks(self, project_id: int, since: datetime | None = None) -> list[ChangedTask]:
        """Return the tasks that were created or answered at or after a moment, oldest change first.

        A deleted task is never among them. A task that changes meanwhile may bear its older or its newer time.
        """
        changed: dict[int, ChangedTask] = {}
        page_size = _FIND_CHUNK
        while True:
            page = self._read_changed_page(project_id, since, page_size)
            changed |= {task.task_id: task for task in page}
            if len(page) < page_size:
                return sorted(changed.values(), key=lambda task: (task.updated_at, task.task_id))
            # Going on from the last time seen, never from a position: what changes meanwhile would shift positions.
            if page[-1].updated_at == since:
                page_size *= 2
            since = page[-1].updated_at

    def read_answers(self, project_id: int, task_ids: Sequence[int]) -> list[TaskAnswers]:
        """Return what people submitted to these tasks, by task id; deleted tasks are left out."""
        if not task_ids:
            return []
        emails = self._read_emails()
        answers = []
        for chunk in _split(sorted(set(task_ids)), _READ_CHUNK):
            # `include` names the fields of tasks and of their annotations at once.
            tasks = self._list_tasks(
                project_id,
                selected=chunk,
                fields="all",
                include="id,data,annotations,result,completed_by,created_at,updated_at,lead_time,was_cancelled",
            )
            answers += [_read_task_answers(task, emails) for task in tasks]
        return answers

    def replace_predictions(self, project_id: int, predictions: Sequence[PreLabel]) -> None:
        """Make these the only predictions of their tasks and let people see them."""
        for chunk in _split(predictions, _IMPORT_CHUNK):
            self._delete_predictions(project_id, [prediction.task_id for prediction in chunk])
            attempt = f"import {len(chunk)} predictions into project {project_id}"
            answer = self._connection.call(
                "POST",
                f"/api/projects/{project_id}/import/predictions",
                attempt=attempt,
                content=[_build_prediction(prediction) for prediction in chunk],
            ).json()
            self._compare(attempt, len(chunk), int(answer.get("created", 0)))
        if predictions:
            self._show_predictions(project_id)

    def ensure_member(self, email: str, password: str) -> str:
        """Return the access token of the person with this address, who signs up if there is no such person.

        Raises:
            LabelStudioRefusedError: The person exists and has another password, or the password is too simple.
        """
        connection = self._connection
        if token := connection.submit_form("/user/login/", email, password):
            return token
        invitation = connection.call("GET", "/api/invite", attempt=f"invite {email}").json()
        token = connection.submit_form("/user/signup/", email, password, {"token": invitation["token"]})
        if token is None:
            raise LabelStudioRefusedError(
                f"Could not sign {email} up at {connection.url}: Label Studio accepts this password neither from an "
                "existing person nor from a new one. Use the person's password, or one of at least 8 characters."
            )
        return token

    def ensure_assignee_view(self, project_id: int, annotator: str) -> int:
        """Return the tab, named after the annotator, that lists the tasks assigned to that person."""
        attempt = f"make the tab of {annotator} in project {project_id}"
        views = self._connection.call("GET", "/api/dm/views/", attempt=attempt, parameters={"project": project_id})
        for view in views.json():
            if view["data"].get("title") == annotator:
                return int(view["id"])
        data = {
            "title": annotator,
            "type": "list",
            "filters": {"conjunction": "and", "items": [_build_assignee_filter(annotator)]},
            "hiddenColumns": {"explore": _HIDDEN_COLUMNS, "labeling": _HIDDEN_COLUMNS},
        }
        view = self._connection.call(
            "POST",
            "/api/dm/views/",
            attempt=attempt,
            content={"project": project_id, "data": data},
        )
        return int(view.json()["id"])

    def list_open_tasks(self, project_id: int) -> list[OpenTask]:
        """Return the tasks assigned to the person whose token this is that the person has not answered or skipped."""
        person = self._connection.call("GET", "/api/current-user/whoami", attempt="sign in").json()
        filters = [
            _build_assignee_filter(person["email"]),
            _build_filter(_ANNOTATORS, "not_contains", "List", person["id"]),
        ]
        return [OpenTask(task["id"], task["data"]["image_id"]) for task in self._list_tasks(project_id, filters)]

    def submit_answer(
        self, task_id: int, result: Sequence[Mapping[str, Any]], lead_time_s: float, *, is_skip: bool = False
    ) -> None:
        """Answer a task, or skip it, as the person whose token this is."""
        self._connection.call(
            "POST",
            f"/api/tasks/{task_id}/annotations/",
            attempt=f"answer task {task_id}",
            content={"result": list(result), "lead_time": lead_time_s, "was_cancelled": is_skip},
        )

    def _find_project(self, title: str) -> dict[str, Any] | None:
        include = "id,title,label_config,maximum_annotations,show_collab_predictions,show_skip_button"
        page = self._connection.call(
            "GET",
            "/api/projects/",
            attempt=f"look for project {title!r}",
            parameters={"title": title, "include": include, "page_size": _FIND_CHUNK},
        )
        named: list[dict[str, Any]] = [project for project in page.json()["results"] if project["title"] == title]
        return min(named, key=lambda project: int(project["id"]), default=None)

    def _ensure_storage(self, project_id: int, folder: Path) -> None:
        attempt = f"let project {project_id} serve pictures from {folder}"
        storages = self._connection.call(
            "GET", "/api/storages/localfiles", attempt=attempt, parameters={"project": project_id}
        )
        if not any(Path(storage["path"]) == folder for storage in storages.json()):
            self._connection.call(
                "POST",
                "/api/storages/localfiles",
                attempt=attempt,
                content={"project": project_id, "path": str(folder), "title": folder.name, "use_blob_urls": True},
            )

    def _list_tasks(
        self,
        project_id: int,
        filters: Sequence[Mapping[str, Any]] = (),
        selected: Sequence[int] = (),
        fields: str = "task_only",
        include: str = "id,data",
    ) -> Iterator[dict[str, Any]]:
        number = 1
        while True:
            page = self._read_task_page(
                project_id,
                {"page": number, "page_size": _FIND_CHUNK, "fields": fields, "include": include},
                {
                    "filters": {"conjunction": "and", "items": list(filters)},
                    "selectedItems": {"all": not selected, "included": list(selected)},
                },
            )
            yield from page["tasks"]
            if number * _FIND_CHUNK >= page["total"]:
                return
            number += 1

    def _read_task_page(
        self, project_id: int, parameters: Mapping[str, Any], query: Mapping[str, Any]
    ) -> dict[str, Any]:
        answer = self._connection.call(
            "GET",
            "/api/tasks/",
            attempt=f"list tasks of project {project_id}",
            # Otherwise the server presigns an address for every picture in S3.
            parameters={"project": project_id, "resolve_uri": "false", **parameters},
            # In the body, because a thousand ids do not fit into an address.
            content=query,
        )
        page: dict[str, Any] = answer.json()
        return page

    def _read_changed_page(self, project_id: int, since: datetime | None, page_size: int) -> list[ChangedTask]:
        items = []
        if since is not None:
            moment = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            items = [_build_filter(_UPDATED_AT, "greater_or_equal", "Datetime", moment)]
        page = self._read_task_page(
            project_id,
            {"page_size": page_size, "fields": "task_only", "include": "id,data,updated_at"},
            {"filters": {"conjunction": "and", "items": items}, "ordering": ["tasks:updated_at"]},
        )
        return [_read_changed_task(task) for task in page["tasks"]]

    def _read_emails(self) -> dict[int, str]:
        users = self._connection.call("GET", "/api/users/", attempt="list people", parameters={"include": "id,email"})
        return {user["id"]: user["email"] for user in users.json()}

    def _delete_predictions(self, project_id: int, task_ids: Sequence[int]) -> None:
        attempt = f"delete the old predictions of {len(task_ids)} tasks in project {project_id}"
        self._act_on_tasks(project_id, "delete_tasks_predictions", task_ids, attempt)

    def _act_on_tasks(self, project_id: int, action: str, task_ids: Sequence[int], attempt: str) -> None:
        """Have the server do one of its bulk actions; tasks that are gone are passed over."""
        self._connection.call(
            "POST",
            "/api/dm/actions/",
            attempt=attempt,
            parameters={"id": action, "project": project_id},
            content={"selectedItems": {"all": False, "included": list(task_ids)}},
        )

    def _show_predictions(self, project_id: int) -> None:
        self._connection.call(
            "PATCH",
            f"/api/projects/{project_id}/",
            attempt=f"show predictions in project {project_id}",
            content={"model_version": _PRE_LABEL_VERSION},
        )

    def _compare(self, attempt: str, wanted: int, found: int) -> None:
        if found != wanted:
            raise LabelStudioRefusedError(
                f"Could not {attempt} at {self._connection.url}: Label Studio answered success and made {found}. "
                "Check that the project's labelling interface is the one that Farmy made."
            )


class _Connection:
    """One person's way to a server; turns everything that can go wrong into our errors."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url.rstrip("/")
        self._client = httpx.Client(base_url=self.url, timeout=_TIMEOUT_S)
        # Whoever holds us for as long as the process lives need not think of closing.
        weakref.finalize(self, self._client.close)
        self._token = token
        self._access_token = ""
        self._access_until = 0.0

    def close(self) -> None:
        self._client.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        attempt: str,
        parameters: Mapping[str, str | int] | None = None,
        content: object = None,
    ) -> httpx.Response:
        """Send a request as the person and return the answer, whose content is JSON if it has any."""
        headers = {"Authorization": self._build_authorization()}
        request = self._client.build_request(method, path, params=parameters, json=content, headers=headers)
        response = self._send(self._client, request, attempt)
        if response.content and not response.headers.get("content-type", "").startswith("application/json"):
            raise LabelStudioRefusedError(
                f"Could not {attempt} at {self.url}: this is not Label Studio. Check FARMY_LABEL_STUDIO_URL."
            )
        return response

    def submit_form(
        self, path: str, email: str, password: str, parameters: Mapping[str, str] | None = None
    ) -> str | None:
        """Fill in the sign-in or sign-up form as a stranger; return the person's token, None if refused."""
        attempt = f"sign {email} in"
        with httpx.Client(base_url=self.url, timeout=_TIMEOUT_S) as browser:
            self._send(browser, browser.build_request("GET", path, params=parameters), attempt)
            fields = {
                "email": email,
                "password": password,
                "csrfmiddlewaretoken": browser.cookies.get("csrftoken", ""),
            }
            headers = {"Referer": f"{self.url}{path}"}
            filled = browser.build_request("POST", path, params=parameters, data=fields, headers=headers)
            if self._send(browser, filled, attempt).status_code != HTTPStatus.FOUND:
                return None
            answer = self._send(browser, browser.build_request("GET", "/api/current-user/token"), attempt)
            return str(answer.json()["token"])

    def _build_authorization(self) -> str:
        # A personal access token is a JWT that is exchanged for short-lived ones; a legacy token is sent as it is.
        if self._token.count(".") != 2:
            return f"Token {self._token}"
        if time.monotonic() >= self._access_until:
            request = self._client.build_request("POST", "/api/token/refresh/", json={"refresh": self._token})
            self._access_token = self._send(self._client, request, "exchange the access token").json()["access"]
            self._access_until = time.monotonic() + _ACCESS_TOKEN_LIFE_S
        return f"Bearer {self._access_token}"

    def _send(self, client: httpx.Client, request: httpx.Request, attempt: str) -> httpx.Response:
        try:
            response = client.send(request)
        except httpx.TransportError as error:
            raise LabelStudioUnavailableError(
                f"Could not {attempt} at {self.url}: Label Studio does not answer ({type(error).__name__}: {error}). "
                "Start it with `farmy up`, or check FARMY_LABEL_STUDIO_URL."
            ) from error
        if response.status_code >= HTTPStatus.BAD_REQUEST:
            raise self._build_error(response, attempt)
        return response

    def _build_error(self, response: httpx.Response, attempt: str) -> FarmyError:
        status = response.status_code
        found = f"Could not {attempt} at {self.url}: Label Studio answered {status}: {_read_words(response.text)}"
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return LabelStudioUnavailableError(f"{found}. Look into its log, and try again later.")
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            return LabelStudioRefusedError(f"{found}. Check FARMY_LABEL_STUDIO_TOKEN.")
        return LabelStudioRefusedError(f"{found}. Check the project, and the version: 1.23 is known to work.")


def _read_words(page: str) -> str:
    """Return the beginning of what a server says; what stands before it may answer with a whole page."""
    return " ".join(re.sub(r"<(style|script).*?</\1>|<[^>]*>", " ", page, flags=re.DOTALL).split())[:_WORDS_SHOWN]


def _split(items: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _build_filter(column: str, operator: str, kind: str, value: object) -> dict[str, Any]:
    return {"filter": column, "operator": operator, "type": kind, "value": value}


def _build_assignee_filter(annotator: str) -> dict[str, Any]:
    # A whole name between commas: "contains" would also give ann@farm the tasks of joann@farm.
    return _build_filter(_ASSIGNEE, "regex", "String", f"(^|, ){re.escape(annotator)}($|,)")


def _build_task_data(task: NewTask) -> dict[str, str]:
    return {
        "image": task.image_url,
        "image_id": task.image_id,
        "ingest_date": task.ingest_date.isoformat(),
        "assignee": ", ".join(task.assignees),
    }


def _build_prediction(prediction: PreLabel) -> dict[str, Any]:
    mark = build_choice(prediction.class_id, mark_id="prelabel")
    return {
        "task": prediction.task_id,
        "result": [{**mark, "meta": {"model_version": prediction.model_version}}],
        "score": prediction.confidence,
        "model_version": _PRE_LABEL_VERSION,
    }


def _read_changed_task(task: Mapping[str, Any]) -> ChangedTask:
    data = task["data"]
    return ChangedTask(
        task["id"],
        data["image_id"],
        date.fromisoformat(data["ingest_date"]),
        datetime.fromisoformat(task["updated_at"]),
    )


def _read_task_answers(task: Mapping[str, Any], emails: Mapping[int, str]) -> TaskAnswers:
    data = task["data"]
    answers = tuple(_read_answer(annotation, emails) for annotation in task["annotations"])
    return TaskAnswers(task["id"], data["image_id"], date.fromisoformat(data["ingest_date"]), answers)


def _read_answer(annotation: Mapping[str, Any], emails: Mapping[int, str]) -> Answer:
    person = annotation["completed_by"]
    return Answer(
        annotation_id=annotation["id"],
        annotator=emails.get(person, f"person {person}"),
        created_at=datetime.fromisoformat(annotation["created_at"]),
        updated_at=datetime.fromisoformat(annotation["updated_at"]),
        lead_time_s=annotation["lead_time"],
        is_skip=annotation["was_cancelled"],
        result=tuple(annotation["result"]),
    )
