"""Everything outside that one lake consists of, opened from the settings at first use.

The one place where settings choose between a laptop's adapters and a cloud's. Commands, assets, sensors and services
all work with a `Lake`; what none of them touches is never imported or opened.
"""

from collections.abc import Callable
from functools import cache, cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from adapters.compute import Compute, ThreadCompute
from adapters.logs import begin_logs
from adapters.objects import Objects
from adapters.settings import CHECKOUT, Settings
from lakehouse.errors import SettingsError

if TYPE_CHECKING:
    from adapters.alerts import AlertChannel
    from adapters.event_queue import EventQueue
    from adapters.features import FeatureStore
    from adapters.image_index import ImageIndex
    from adapters.label_models import LabelModels
    from adapters.label_studio import LabelStudio
    from adapters.label_studio_server import LabelStudioServer
    from adapters.models import ImageModel
    from adapters.presigned_uploads import PresignedUploads
    from adapters.releases import Releases
    from adapters.tables import Tables
    from adapters.url_fetcher import UrlFetcher
    from lakehouse.predicted_labels import ImageModelLabels

LABEL_STUDIO_COMMAND = CHECKOUT / ".venv-label-studio" / "bin" / "label-studio"


class Lake:
    """One lake: its objects, tables, index, Label Studio, models and compute.

    Use it as a context manager where it may have to start a Label Studio server or Ray: what it started it stops at the
    end. Pickled it is its settings alone, secrets included; another process opens it anew, once.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._label_studio_server: LabelStudioServer | None = None

    def __enter__(self) -> Self:
        begin_logs(self.settings)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Callable[..., "Lake"], tuple[tuple[tuple[str, Any], ...]]]:
        settings = dict(self.settings)
        if self.objects.folder is not None:
            # The other process may have been started elsewhere.
            settings["objects"] = str(self.objects.folder)
        return _reopen, (tuple(settings.items()),)

    def close(self) -> None:
        """Stop the servers that this lake started, if it started any, and forget the connections to them."""
        self.__dict__.pop("label_studio", None)
        compute: Compute | None = self.__dict__.pop("compute", None)
        if compute is not None:
            compute.close()
        if self._label_studio_server is not None:
            self._label_studio_server.stop()
            self._label_studio_server = None

    @cached_property
    def objects(self) -> Objects:
        """Objects by key."""
        address = self.settings.objects
        if address is None:
            return Objects.in_folder(self.settings.home / "lake")
        if address.startswith("s3://"):
            return Objects.in_bucket(address, endpoint=self.settings.s3_endpoint, region=self.settings.s3_region)
        return Objects.in_folder(self.settings.resolve(address))

    @cached_property
    def presigned_uploads(self) -> "PresignedUploads":
        """Leave for others to put an image into landing; only a bucket can give it."""
        from adapters.presigned_uploads import PresignedUploads

        if self.objects.folder is not None:
            raise SettingsError(
                f"Uploads are presigned for a bucket, and the objects live in the folder {self.objects.folder}: use "
                "`farmy submit`, or set FARMY_OBJECTS to s3://bucket/prefix."
            )
        bucket, prefix = self.objects.bucket_and_prefix
        return PresignedUploads(bucket, prefix, endpoint=self.settings.s3_endpoint, region=self.settings.s3_region)

    @cached_property
    def url_fetcher(self) -> "UrlFetcher":
        """Images by URL."""
        from adapters.url_fetcher import UrlFetcher

        return UrlFetcher(self.settings.fetching.allowed_networks)

    @cached_property
    def tables(self) -> "Tables":
        """The Iceberg tables."""
        from adapters.tables import open_sqlite_tables

        self._make_home()
        root = self.objects.root if self.objects.folder is None else f"file://{self.objects.folder}"
        options = {}
        if self.settings.s3_endpoint is not None:
            # Without a region pyarrow asks Amazon for that of the bucket, which is not there.
            options = {"s3.endpoint": self.settings.s3_endpoint, "s3.region": self.settings.s3_region}
        return open_sqlite_tables(str(self.settings.home / "catalog.db"), f"{root}/tables", options)

    @cached_property
    def index(self) -> "ImageIndex":
        """The look-up by image."""
        from adapters.image_index import ImageIndex

        self._make_home()
        return ImageIndex(self.settings.home / "image_index.db")

    @cached_property
    def event_queue(self) -> "EventQueue | None":
        """The queue to which the bucket sends its events; None if landing is to be listed."""
        from adapters.event_queue import SqsQueue

        return None if self.settings.queue_url is None else SqsQueue(self.settings.queue_url)

    @cached_property
    def compute(self) -> Compute:
        """Where batches are worked on."""
        if self.settings.compute == "threads":
            return ThreadCompute(self.settings.workers)
        from adapters.ray_compute import RayCompute

        return RayCompute(self.settings.workers, self.settings.ray_address)

    @cached_property
    def image_model(self) -> "ImageModel":
        """The packaged ImageNet model."""
        from adapters.models import open_image_model

        return open_image_model(self.settings.home / "models")

    @cached_property
    def features(self) -> "FeatureStore":
        """What the image model sees in standard images, kept once computed."""
        from adapters.features import FeatureStore

        return FeatureStore(self.objects, lambda: self.image_model)

    @cached_property
    def image_model_labels(self) -> "ImageModelLabels":
        """What the packaged model's outputs mean in this project."""
        from adapters.models import ImageModel, read_imagenet_labels
        from lakehouse.predicted_labels import ImageModelLabels
        from lakehouse.predictions import map_outputs_to_classes

        names = read_imagenet_labels()
        class_ids = map_outputs_to_classes(names, self.settings.classes)
        return ImageModelLabels(ImageModel.name, ImageModel.version, tuple(name[0] for name in names), tuple(class_ids))

    @cached_property
    def label_models(self) -> "LabelModels":
        """The project's own models."""
        from adapters.label_models import LabelModels

        return LabelModels(self.tables, self.objects)

    @cached_property
    def releases(self) -> "Releases":
        """The releases of the labelled dataset."""
        from adapters.releases import Releases

        return Releases(self.tables, self.objects, self.settings.splits)

    @cached_property
    def alert_channels(self) -> "tuple[AlertChannel, ...]":
        """Who is told of runs that failed."""
        from adapters.alerts import open_alert_channels

        return open_alert_channels(self.settings)

    @property
    def has_own_label_studio(self) -> bool:
        """Whether Farmy itself starts the Label Studio that this lake uses."""
        return self.settings.label_studio_url is None

    def is_label_studio_up(self) -> bool:
        """Tell whether Label Studio can be asked without starting it: it runs elsewhere, or its own server is up."""
        from adapters.label_studio_server import find_running

        return not self.has_own_label_studio or find_running(self.settings.home) is not None

    @cached_property
    def label_studio(self) -> "LabelStudio":
        """Label Studio; its own server is started if none runs for this home."""
        from adapters.label_studio import LabelStudio

        url = self.settings.label_studio_url or self.start_label_studio()
        return LabelStudio(url, self.label_studio_token)

    @property
    def label_studio_token(self) -> str:
        """Access token of Label Studio's administrator."""
        from adapters.label_studio_server import read_credentials

        if self.has_own_label_studio:
            return read_credentials(self.settings.home).token
        if self.settings.label_studio_token is None:
            raise SettingsError(
                f"FARMY_LABEL_STUDIO_URL is {self.settings.label_studio_url} but there is no token for it: "
                "set FARMY_LABEL_STUDIO_TOKEN."
            )
        return self.settings.label_studio_token.get_secret_value()

    def build_picture_url(self, key: str) -> str:
        """Return what a task says its picture is: an address that Label Studio resolves for signed-in people alone."""
        from adapters.label_studio import build_image_url

        if self.objects.folder is not None:
            return build_image_url(key)
        bucket, prefix = self.objects.bucket_and_prefix
        return build_image_url(f"{prefix}/{key}" if prefix else key, bucket)

    def start_label_studio(self, port: int | None = None, on_progress: Callable[[str], None] | None = None) -> str:
        """Start this home's own Label Studio unless it runs, and return its address.

        Args:
            port: Port on loopback; any free one if not given.
            on_progress: Told in a sentence what is being waited for.
        """
        from adapters.label_studio_server import LabelStudioServer, find_running

        running = find_running(self.settings.home)
        if running is not None:
            return running.url
        if self.objects.folder is None:
            raise SettingsError(
                "The Label Studio that Farmy starts serves pictures from a folder, and FARMY_OBJECTS is a bucket: set "
                "FARMY_LABEL_STUDIO_URL and FARMY_LABEL_STUDIO_TOKEN to one that can read the bucket."
            )
        server = LabelStudioServer(
            self.settings.home, LABEL_STUDIO_COMMAND, self.objects.folder, port, on_progress=on_progress
        )
        self._label_studio_server = server
        return server.start().url

    @cached_property
    def annotation_project_id(self) -> int:
        """The Label Studio project, made or brought to the settings' classes and overlap."""
        from lakehouse.ontology import build_labelling_interface

        annotation = self.settings.annotation
        folder = self.objects.folder
        project_id = self.label_studio.ensure_project(
            annotation.project,
            build_labelling_interface(self.settings.classes),
            None if folder is None else folder / "staging",
            max(1, min(annotation.overlap, len(annotation.annotators))),
        )
        for annotator in annotation.annotators:
            self.label_studio.ensure_assignee_view(project_id, annotator)
        return project_id

    def _make_home(self) -> None:
        try:
            self.settings.home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(
                f"Cannot make the folder {self.settings.home}: {error.strerror}. Set FARMY_HOME to a folder that you "
                "can write."
            ) from error


@cache
def _reopen(settings: tuple[tuple[str, Any], ...]) -> Lake:
    """Open a lake that came from another process: the same one for all that has come with these settings."""
    return Lake(Settings.model_construct(**dict(settings)))
