"""`farmy demo`: the whole loop on the sample images, with simulated annotators."""

import hmac
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from adapters.lake import Lake
from adapters.settings import Settings, load_settings
from cli.export import export_coco
from cli.output import console, json_option, notices, report
from cli.release import make_release
from cli.run import bring_up_to_date
from lakehouse.arrivals import LANDING
from lakehouse.errors import SettingsError, StorageError
from lakehouse.phases import COMPLETE
from lakehouse.predicted_labels import LABEL_MODEL
from lakehouse.quality import CLEAN, REJECTED, SUSPECT
from lakehouse.schemas import LOOP

if TYPE_CHECKING:
    from samples.annotators import ImageTruth
    from samples.landing import SampleFile
    from samples.truth import SampleTruth

RELEASE = "demo"
_BEFORE_PEOPLE = tuple(name for name in LOOP if name not in {"annotations", "labelled_dataset", "label_model"})


@dataclass
class Stopwatch:
    """Seconds by stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the time that the block takes to a stage, and say that it has begun."""
        started = time.perf_counter()
        notices.print(f"[dim]{stage} ...[/]")
        yield
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + time.perf_counter() - started, 1)


@click.command()
@json_option
def demo(*, as_json: bool) -> None:
    """Run the whole loop on the sample images: land, cleanse, annotate, train, predict, release, export.

    Real photographs, a real Label Studio, a real model; only the three annotators are simulated. Running it again
    changes nothing. `farmy up` then shows everything.

    Example: farmy demo --json
    """
    settings = load_settings()
    check_settings(settings)
    watch = Stopwatch()
    started = time.perf_counter()
    with Lake(settings) as lake:
        truths = run_loop(lake, watch)
        with watch.measure("Release and export"):
            row = make_release(lake, RELEASE)
            export = export_coco(lake, RELEASE, settings.home / "exports" / f"{RELEASE}-coco")
        result = summarize(lake, truths) | {"release": row["name"], "export": export["annotations_file"]}
    watch.seconds["Total"] = round(time.perf_counter() - started, 1)
    report(as_json, result | {"seconds": watch.seconds}, _show)


def check_settings(settings: Settings) -> None:
    """Make sure that the settings are the sample project's.

    Raises:
        SettingsError: If its classes or annotators are missing.
    """
    from samples.annotators import SIMULATED_ANNOTATORS
    from samples.catalogue import CLASS_IDS

    missing = sorted(set(CLASS_IDS) - set(settings.class_names)) + [
        person.email for person in SIMULATED_ANNOTATORS if person.email not in settings.annotation.annotators
    ]
    if missing:
        raise SettingsError(
            f"The demo needs the sample project's classes and annotators, and farmy.toml lacks {', '.join(missing)}: "
            "set FARMY_CONFIG to the farmy.toml that came with the checkout."
        )


def run_loop(lake: Lake, watch: Stopwatch) -> "Mapping[str, SampleTruth]":
    """Land the samples, take them through every stage, and return the truth of each image."""
    from samples.landing import build_sample_landing, index_sample_truth

    with ThreadPoolExecutor(1) as background:
        # Label Studio's start is the longest wait of the demo, and nothing before the tasks needs it.
        server = background.submit(_connect_label_studio, lake)
        with watch.measure("Making and landing the samples"):
            files = list(build_sample_landing())
            land_samples(lake, files)
        with watch.measure("Cleansing and grouping"):
            bring_up_to_date(lake, ("raw_images", "cleansed_images", "near_duplicates"))
        with watch.measure("Waiting for Label Studio"):
            server.result()
    truths = index_sample_truth(files)
    with watch.measure("Tasks, predictions and pre-labels"):
        bring_up_to_date(lake, _BEFORE_PEOPLE)
    with watch.measure("Three simulated people annotate"):
        annotate(lake, truths)
    with watch.measure("Consensus, training and prediction"):
        bring_up_to_date(lake, LOOP)
    return truths


def _connect_label_studio(lake: Lake) -> None:
    lake.label_studio.check()


def land_samples(lake: Lake, files: "Sequence[SampleFile]") -> None:
    """Put the sample files into landing, dated as they were taken; a bucket dates them itself."""
    for file in files:
        key = f"{LANDING}{file.source}/{file.landed_at:%Y/%m/%d}/{file.name}"
        lake.objects.create(key, file.data)
        if lake.objects.folder is None:
            continue
        moment = file.landed_at.timestamp()
        try:
            os.utime(lake.objects.folder / key, (moment, moment))
        except OSError as error:
            raise StorageError(f"Could not date the sample {key}: {error.strerror}. Run the demo again.") from error


def annotate(lake: Lake, truths: "Mapping[str, SampleTruth]") -> None:
    """Have the simulated people answer their tasks, except on the images that models are scored on."""
    from adapters.label_studio import LabelStudio
    from samples.annotators import SIMULATED_ANNOTATORS, answer_open_tasks

    images = _list_image_truths(lake, truths)
    for person in SIMULATED_ANNOTATORS:
        password = hmac.digest(lake.label_studio_token.encode(), person.email.encode(), "sha256").hex()[:32]
        token = lake.label_studio.ensure_member(person.email, password)
        with LabelStudio(lake.label_studio.url, token) as desk:
            answer_open_tasks(desk, lake.annotation_project_id, person, images, list(lake.settings.class_names))


def _list_image_truths(lake: Lake, truths: "Mapping[str, SampleTruth]") -> "dict[str, ImageTruth]":
    from samples.annotators import build_image_truth

    sizes = lake.tables.read("cleansed_images", columns=["image_id", "width_px", "height_px", "status"]).to_pylist()
    shown = {
        row["image_id"]: build_image_truth(truths[row["image_id"]], row["width_px"], row["height_px"])
        for row in sizes
        if row["image_id"] in truths and row["status"] != REJECTED and not truths[row["image_id"]].is_held_out
    }
    return {image_id: truth for image_id, truth in shown.items() if truth is not None}


def summarize(lake: Lake, truths: "Mapping[str, SampleTruth]") -> dict[str, Any]:
    """Return the numbers of the demo: what every landed file came to, and how right labels and predictions are."""
    raw = lake.tables.read("raw_images", columns=["image_id", "is_first"])
    verdicts = lake.tables.read("cleansed_images", columns=["status", "reason"]).to_pylist()
    statuses = Counter(row["status"] for row in verdicts)
    annotations = lake.tables.read("annotations", columns=["annotation_id"])
    labelled = lake.tables.read("labelled_dataset").to_pylist()
    choices = [row for row in labelled if row["kind"] == "choice"]
    agreements = [row["agreement"] for row in choices if row["agreement"] is not None]
    accepted = {row["image_id"]: row["class_id"] for row in choices if row["class_id"] and row["phase"] == COMPLETE}
    predicted = lake.tables.read("predicted_labels", where={"model_name": [LABEL_MODEL]}).to_pylist()
    firsts = {row["image_id"]: row["class_id"] for row in predicted if row["rank"] == 1}
    unseen = {image_id: class_id for image_id, class_id in firsts.items() if _is_held_out(truths, image_id)}
    return {
        "images_landed": raw.num_rows,
        "images_distinct": len(verdicts),
        "exact_copies": raw.num_rows - sum(raw.column("is_first").to_pylist()),
        "clean": statuses[CLEAN],
        "suspect": statuses[SUSPECT],
        "rejected": statuses[REJECTED],
        "reasons": dict(sorted(Counter(row["reason"] for row in verdicts if row["reason"]).items())),
        "tasks": lake.tables.count_rows("annotation_tasks"),
        "annotations": len(set(annotations.column("annotation_id").to_pylist())),
        "agreement": round(sum(agreements) / len(agreements), 3) if agreements else None,
        "conflicts": len({row["image_id"] for row in labelled if row["is_conflict"]}),
        "labelled": len(accepted),
        "predicted": len(
            {row["image_id"] for row in lake.tables.read("predicted_labels", columns=["image_id"]).to_pylist()}
        ),
        "label_accuracy": _score(accepted, truths),
        "prediction_accuracy": _score(unseen, truths),
        "predictions_scored": len(unseen),
    }


def _is_held_out(truths: "Mapping[str, SampleTruth]", image_id: str) -> bool:
    return image_id in truths and truths[image_id].is_held_out


def _score(classes: Mapping[str, str], truths: "Mapping[str, SampleTruth]") -> float | None:
    """Return the share of images whose class is the true one; None without any."""
    known = {image_id: class_id for image_id, class_id in classes.items() if image_id in truths}
    if not known:
        return None
    return round(sum(truths[image_id].class_id == class_id for image_id, class_id in known.items()) / len(known), 3)


def _show(result: dict[str, Any]) -> None:
    table = Table(title="The demo's loop", title_justify="left", show_header=False, show_edge=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(style="dim")
    for name, value, remark in _list_lines(result):
        table.add_row(name, value, remark)
    console.print(table)
    seconds = ", ".join(f"{stage} {value:g}" for stage, value in result["seconds"].items())
    console.print(f"Seconds: {seconds}", highlight=False)
    console.print(f"COCO export: {result['export']}", highlight=False, soft_wrap=True)
    console.print("Look at it all: [bold]make up[/] starts Dagster's page and Label Studio.")


def _list_lines(result: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    yield "Files landed", str(result["images_landed"]), "= clean + suspect + rejected + exact copies"
    yield "Distinct images", str(result["images_distinct"]), f"{result['exact_copies']} exact copies"
    yield "Clean", str(result["clean"]), ""
    yield "Suspect", str(result["suspect"]), ""
    yield "Rejected", str(result["rejected"]), ""
    for reason, count in result["reasons"].items():
        yield f"  {reason}", str(count), ""
    yield "Tasks", str(result["tasks"]), "one for each group of near duplicates"
    yield "Annotations", str(result["annotations"]), "by three simulated people of different skill"
    yield "Agreement", _percent(result["agreement"]), "of pairs of people on an image's class"
    yield "Images in conflict", str(result["conflicts"]), ""
    yield "Images labelled", str(result["labelled"]), f"{_percent(result['label_accuracy'])} of them right"
    remark = (
        f"{_percent(result['prediction_accuracy'])} right on {result['predictions_scored']} images of unseen subjects"
    )
    yield "Images predicted", str(result["predicted"]), remark
    yield "Release", result["release"], ""


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{share:.1%}"
