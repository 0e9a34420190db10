"""Settings: `farmy.toml` and the environment, read once at the edge into one typed object.

What a project decides (classes, sources, annotators, thresholds) stands in `farmy.toml`; addresses and secrets come
from `FARMY_*` variables alone. Settings live among the adapters because services need them and never import Dagster.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource
from pydantic_settings import SettingsError as VariableError

from lakehouse.consensus import ConsensusSettings
from lakehouse.errors import SettingsError
from lakehouse.label_head import LabelHeadSettings
from lakehouse.near_duplicates import NearDuplicateSettings
from lakehouse.ontology import LabelClass
from lakehouse.quality import CleansingRecipe, QualitySettings
from lakehouse.releases import SplitShares
from lakehouse.sources import Source

CHECKOUT = Path(__file__).resolve().parents[1]
CONFIG_NAME = "farmy.toml"
SECRET_FIELDS = ("label_studio_token", "alert_webhook")
"""Settings that come from the environment alone."""
_AWS_SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


_DATACLASSES: dict[str, Any] = {
    "classes": LabelClass,
    "cleansing": CleansingRecipe,
    "consensus": ConsensusSettings,
    "label_model": LabelHeadSettings,
    "near_duplicates": NearDuplicateSettings,
    "quality": QualitySettings,
    "sources": Source,
    "splits": SplitShares,
}


def _refuse_unknown_keys(section: object, kind: Any) -> None:  # noqa: ANN401
    if not isinstance(section, dict):
        return
    known = {field.name: field.type for field in fields(kind)}
    unknown = sorted(set(section) - set(known))
    if unknown:
        raise ValueError(f"there is no setting {unknown[0]!r}; there are {', '.join(sorted(known))}")
    for name, value in section.items():
        if is_dataclass(known[name]):
            _refuse_unknown_keys(value, known[name])


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AnnotationSettings(_Section):
    """How images are put before people.

    Attributes:
        project: Title of the Label Studio project.
        annotators: User names (e-mail addresses) of the people who are assigned tasks.
        overlap: How many of them answer each task.
    """

    project: str = "Farmy"
    annotators: tuple[str, ...] = ()
    overlap: Annotated[int, Field(ge=1, le=100)] = 2

    @field_validator("annotators")
    @classmethod
    def _are_different(cls, annotators: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(annotators)) < len(annotators):
            raise ValueError("an annotator is named twice")
        return annotators


class FetchingSettings(_Section):
    """What may be fetched by URL.

    Attributes:
        allowed_networks: Networks (CIDR) that are not public and may be connected to all the same, such as an intranet.
    """

    allowed_networks: tuple[IPvAnyNetwork, ...] = ()


class Settings(BaseSettings):
    """Everything that can be set.

    Attributes:
        home: Folder of all local state.
        objects: Where objects live: a folder or `s3://bucket/prefix`; `<home>/lake` if not set.
        s3_endpoint: Another S3 than Amazon's.
        s3_region: What that other S3 calls its region.
        queue_url: The SQS queue to which the bucket sends its events; landing is listed if not set.
        label_studio_url: A Label Studio that runs elsewhere; Farmy starts its own if not set.
        label_studio_token: Access token for it.
        label_studio_port: Port of the Label Studio that Farmy starts.
        dagster_port: Port of Dagster's web page.
        dagster_url: Under which address people reach Dagster's page; alerts link to runs there.
        alert_webhook: Where failed runs are posted to; who knows the address may post, so it is a secret.
        alert_topic: SNS topic that failed runs are published to.
        log_to: Where the structured logs go: `files` below the home, or `stderr`.
        workers: Images that a run works on at once.
        compute: What a run works with: `threads` of its process, or processes of `ray`.
        ray_address: A Ray that runs, `host:port` or `auto`; Farmy starts its own, on this machine, if not set.
        tick_seconds: For how long a look of the arrivals sensor takes events from the queue.
        watch_days: How many days back the arrivals sensor looks for objects, where there is no queue of
            events; the daily reconcile looks at all.
        classes: What images are labelled with.
        sources: Who lands images.
    """

    model_config = SettingsConfigDict(
        env_prefix="FARMY_", env_nested_delimiter="__", extra="forbid", frozen=True, toml_file=CONFIG_NAME
    )

    home: Path
    objects: str | None = None
    s3_endpoint: str | None = None
    s3_region: str = "us-east-1"
    queue_url: Annotated[str, Field(pattern=r"^https?://[^\s/?#@]+/[^\s?#@]*[^\s/?#@]$")] | None = None
    label_studio_url: str | None = None
    label_studio_token: SecretStr | None = None
    label_studio_port: Annotated[int, Field(ge=1, le=65535)] = 8080
    dagster_port: Annotated[int, Field(ge=1, le=65535)] = 3000
    dagster_url: Annotated[str, Field(pattern=r"^https?://[^\s/]")] | None = None
    alert_webhook: SecretStr | None = None
    alert_topic: Annotated[str, Field(pattern=r"^arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[\w-]+$")] | None = None
    log_to: Literal["files", "stderr"] = "files"
    workers: Annotated[int, Field(ge=1, le=256)] = Field(default_factory=lambda: os.cpu_count() or 1)
    compute: Literal["threads", "ray"] = "threads"
    ray_address: str | None = None
    tick_seconds: Annotated[float, Field(gt=0, le=50)] = 40
    watch_days: Annotated[int, Field(ge=1, le=366)] = 3
    classes: Annotated[tuple[LabelClass, ...], Field(min_length=1)]
    sources: tuple[Source, ...] = (Source("submit"),)
    annotation: AnnotationSettings = AnnotationSettings()
    fetching: FetchingSettings = FetchingSettings()
    cleansing: CleansingRecipe = CleansingRecipe()
    quality: QualitySettings = QualitySettings()
    near_duplicates: NearDuplicateSettings = NearDuplicateSettings()
    consensus: ConsensusSettings = ConsensusSettings()
    label_model: LabelHeadSettings = LabelHeadSettings()
    splits: SplitShares = SplitShares()

    @field_validator(*_DATACLASSES, mode="before")
    @classmethod
    def _has_no_unknown_keys(cls, value: object, info: ValidationInfo) -> object:
        for section in value if isinstance(value, list | tuple) else [value]:
            _refuse_unknown_keys(section, _DATACLASSES[str(info.field_name)])
        return value

    @field_validator("home")
    @classmethod
    def _can_be_an_address(cls, home: Path) -> Path:
        if set(str(home)) & set("?#%"):
            raise ValueError(f"the folder {home} has one of ? # % in its path, which addresses of tables cannot hold")
        return home

    @field_validator("alert_webhook")
    @classmethod
    def _can_be_posted_to(cls, address: SecretStr | None) -> SecretStr | None:
        if address is not None and not re.fullmatch(r"https?://[^\s/]\S*", address.get_secret_value()):
            raise ValueError("it is not an address that begins with https:// or http://")
        return address

    @field_validator("classes")
    @classmethod
    def _have_different_ids(cls, classes: tuple[LabelClass, ...]) -> tuple[LabelClass, ...]:
        if len({label_class.id for label_class in classes}) < len(classes):
            raise ValueError("two classes have the same id")
        if len({label_class.name for label_class in classes}) < len(classes):
            raise ValueError("two classes have the same name")
        return classes

    @field_validator("sources")
    @classmethod
    def _have_different_names(cls, sources: tuple[Source, ...]) -> tuple[Source, ...]:
        if len({source.name for source in sources}) < len(sources):
            raise ValueError("two sources have the same name")
        return sources

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take arguments before the environment, and the environment before the file."""
        file_settings = TomlConfigSettingsSource(settings_cls)
        for name in SECRET_FIELDS:
            if name in file_settings.toml_data:
                raise SettingsError(
                    f"{name} stands in the settings file, where everybody reads it: take it out, make a new one, and "
                    f"set FARMY_{name.upper()}."
                )
        return init_settings, env_settings, file_settings

    def resolve(self, address: str) -> Path:
        """Return a folder that the settings name, relative to where the process was started."""
        return Path(address).expanduser().resolve()

    @cached_property
    def class_names(self) -> dict[str, str]:
        """Name of each class by its id."""
        return {label_class.id: label_class.name for label_class in self.classes}


def find_config(environment: Mapping[str, str], folder: Path) -> Path:
    """Return the settings file: `FARMY_CONFIG`, or the nearest `farmy.toml` from a folder upwards, or the checkout's.

    Raises:
        SettingsError: If there is none.
    """
    named = environment.get("FARMY_CONFIG")
    candidates = (
        [Path(named).expanduser()] if named else [place / CONFIG_NAME for place in (folder, *folder.parents, CHECKOUT)]
    )
    for candidate in candidates:
        if candidate.is_file():
            return candidate.resolve()
    raise SettingsError(
        f"There is no settings file {candidates[0]}: write one, or set FARMY_CONFIG to the one you have."
    )


def load_settings(**overrides: Any) -> Settings:  # noqa: ANN401
    """Read the settings of this process.

    Args:
        **overrides: Fields that the caller decides, whatever file and environment say.

    Raises:
        SettingsError: With one sentence for each setting that is missing or invalid.
    """
    config = find_config(os.environ, Path.cwd())
    place = os.environ.get("FARMY_HOME") or str(config.parent / ".farmy")
    values = {"home": Path(place).expanduser().resolve()} | overrides
    return _read_settings(config, values)


def list_secrets(settings: Settings) -> tuple[str, ...]:
    """Return the secrets of this process, which nothing that people read may show."""
    own = [getattr(settings, name) for name in SECRET_FIELDS]
    return (
        *(secret.get_secret_value() for secret in own if secret is not None),
        *(os.environ[name] for name in _AWS_SECRETS if os.environ.get(name)),
    )


def _read_settings(config: Path, values: dict[str, Any]) -> Settings:
    class SettingsOfFile(Settings):
        model_config = SettingsConfigDict(toml_file=config)

    try:
        return SettingsOfFile(**values)
    except ValidationError as error:
        problems = "; ".join(_describe_problem(problem) for problem in error.errors())
        raise SettingsError(f"The settings in {config} or in FARMY_* variables are not valid: {problems}.") from error
    except VariableError as error:
        raise SettingsError(
            f"A FARMY_* variable cannot be read: {error}. Lists and sections are written there as JSON."
        ) from error
    except ValueError as error:
        raise SettingsError(f"The settings file {config} is not valid TOML: {error}. Mend that line.") from error
    except OSError as error:
        raise SettingsError(f"The settings file {config} cannot be read: {error.strerror}.") from error


def _describe_problem(problem: Mapping[str, Any]) -> str:
    place = ".".join(str(part) for part in problem["loc"]) or "settings"
    return f"{place}: {problem['msg'].removeprefix('Value error, ')}"
