import os
from dataclasses import asdict, replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from adapters.settings import CHECKOUT, find_config, list_secrets, load_settings
from lakehouse.errors import SettingsError
from lakehouse.fingerprints import hash_values
from lakehouse.quality import CleansingRecipe, QualitySettings, RejectedLimits, SuspectLimits

CLASSES = """
[[classes]]
id = "cow"
name = "Cow"
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in, without any FARMY_* variable."""
    for name in [name for name in os.environ if name.startswith("FARMY_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(text: str) -> None:
    Path("farmy.toml").write_text(text)


def test_what_is_not_set_has_a_default(place: Path) -> None:
    write(CLASSES)
    settings = load_settings()
    assert settings.home == place / ".farmy"
    assert settings.cleansing == CleansingRecipe()
    assert settings.quality == QualitySettings()
    assert settings.objects is None
    assert settings.workers >= 1
    assert settings.class_names == {"cow": "Cow"}


def test_the_file_says_what_the_project_decides() -> None:
    write('watch_days = 9\n[cleansing]\ngeohash_length = 4\n[annotation]\nannotators = ["ann", "bob"]' + CLASSES)
    settings = load_settings()
    assert settings.watch_days == 9
    assert settings.cleansing == CleansingRecipe(geohash_length=4)
    assert settings.annotation.annotators == ("ann", "bob")


def test_the_environment_is_stronger_than_the_file_and_an_argument_than_both(monkeypatch: pytest.MonkeyPatch) -> None:
    write("watch_days = 9\n[cleansing]\nstandard_edge_px = 1024\nstandard_quality = 70" + CLASSES)
    monkeypatch.setenv("FARMY_WATCH_DAYS", "5")
    monkeypatch.setenv("FARMY_CLEANSING__STANDARD_EDGE_PX", "512")
    settings = load_settings()
    assert settings.watch_days == 5
    assert settings.cleansing == CleansingRecipe(standard_edge_px=512, standard_quality=70)
    assert load_settings(watch_days=3).watch_days == 3


def test_a_limit_that_is_not_set_keeps_its_default_beside_one_that_is(monkeypatch: pytest.MonkeyPatch) -> None:
    write("[quality.suspect]\nmin_sharpness = 0.4\n[quality.rejected]\nmin_edge_px = 10" + CLASSES)
    expected = QualitySettings(SuspectLimits(min_sharpness=0.4), RejectedLimits(min_edge_px=10))
    assert load_settings().quality == expected
    monkeypatch.setenv("FARMY_QUALITY__REJECTED__MIN_EDGE_PX", "20")
    assert load_settings().quality == replace(expected, rejected=RejectedLimits(min_edge_px=20))


def test_a_limit_that_is_set_to_its_default_leaves_every_verdict_as_it_is() -> None:
    write("[quality.suspect]\nmax_aspect_ratio = 5\n[quality.rejected]\nmin_edge_px = 64" + CLASSES)
    assert hash_values(asdict(load_settings().quality)) == hash_values(asdict(QualitySettings()))


def test_soft_limits_alone_are_set_without_touching_the_hard_ones() -> None:
    write("[quality.suspect]\nmin_contrast = 5" + CLASSES)
    assert load_settings().quality.rejected == RejectedLimits()


def test_networks_are_opened_one_by_one_and_none_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    write(CLASSES)
    assert load_settings().fetching.allowed_networks == ()
    write('[fetching]\nallowed_networks = ["10.20.0.0/16", "fd00:1::/32"]' + CLASSES)
    assert load_settings().fetching.allowed_networks == (ip_network("10.20.0.0/16"), ip_network("fd00:1::/32"))
    monkeypatch.setenv("FARMY_FETCHING__ALLOWED_NETWORKS", '["127.0.0.1/32"]')
    assert load_settings().fetching.allowed_networks == (ip_network("127.0.0.1/32"),)


@pytest.mark.parametrize("network", ["intranet", "10.20.0.1/16", "10.20.0.0/33", ""])
def test_a_network_that_is_none_is_refused(network: str) -> None:
    write(f'[fetching]\nallowed_networks = ["{network}"]' + CLASSES)
    with pytest.raises(SettingsError, match=r"fetching\.allowed_networks\.0"):
        load_settings()


def test_the_home_is_beside_the_file_or_where_the_environment_says(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(CLASSES)
    (place / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(place / "deep" / "er")
    assert load_settings().home == place / ".farmy"
    monkeypatch.setenv("FARMY_HOME", "my lake")
    assert load_settings().home == place / "deep" / "er" / "my lake"


def test_a_token_is_taken_from_the_environment_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    write(CLASSES)
    monkeypatch.setenv("FARMY_LABEL_STUDIO_TOKEN", "s3cret-token")
    settings = load_settings()
    assert settings.label_studio_token is not None
    assert settings.label_studio_token.get_secret_value() == "s3cret-token"
    assert "s3cret" not in repr(settings) + str(settings) + settings.model_dump_json()


def test_a_token_is_not_part_of_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    write("workers = 0" + CLASSES)
    monkeypatch.setenv("FARMY_LABEL_STUDIO_TOKEN", "s3cret-token")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "s3cret" not in str(caught.value)


BAD = {
    "no classes": ("", "classes"),
    "an unknown key": ("colour = 1" + CLASSES, "colour"),
    "an unknown section": (CLASSES + "[cleaning]\nmax_pixels = 1", "cleaning"),
    "an unknown key in a class": (CLASSES + 'colour = "#ffffff"', "'colour'.*color"),
    "an unknown key in cleansing": (CLASSES + "[cleansing]\nmin_edge_px = 3", "'min_edge_px'.*standard_edge_px"),
    "an unknown key in quality": (CLASSES + "[quality]\nmin_edge_px = 3", "quality.*'min_edge_px'.*rejected.*suspect"),
    "an unknown limit": (CLASSES + "[quality.suspect]\nmin_edge = 3", "quality.*'min_edge'.*min_edge_px"),
    "an unknown key in consensus": (CLASSES + "[consensus]\nvotes = 3", "consensus.*'votes'"),
    "an unknown key in a source": (CLASSES + '[[sources]]\nname = "web"\nurl = ""', "sources.*url"),
    "text for a number": (CLASSES + '[cleansing]\nmax_pixels = "many"', "cleansing.max_pixels.*integer"),
    "a standard image that is a thumbnail": (CLASSES + "[cleansing]\nstandard_edge_px = 255", "standard_edge_px.*256"),
    "a quality above all": (CLASSES + "[cleansing]\nstandard_quality = 101", "standard_quality.*100"),
    "a geohash that tells the house": (CLASSES + "[cleansing]\ngeohash_length = 6", "geohash_length.*5"),
    "no time": (CLASSES + "[cleansing]\nmax_seconds = 0", "max_seconds.*0.1"),
    "a limit out of range": (CLASSES + "[quality.rejected]\nmin_entropy = 9", "quality.rejected.min_entropy.*8"),
    "limits that are a number": (CLASSES + "[quality]\nsuspect = 3", "quality.suspect"),
    "no worker": ("workers = 0" + CLASSES, "workers.*1"),
    "a port out of range": ("dagster_port = 70000" + CLASSES, "dagster_port.*65535"),
    "a distance that the search cannot do": (CLASSES + "[near_duplicates]\nmax_distance = 9", "max_distance.*8"),
    "no overlap": (CLASSES + "[annotation]\noverlap = 0", "overlap"),
    "an annotator named twice": (CLASSES + '[annotation]\nannotators = ["a", "a"]', "an annotator is named twice"),
    "a class id with capitals": (CLASSES.replace("cow", "COW"), "class id 'COW' is not lower case"),
    "a colour in words": (CLASSES + 'color = "red"', "colour 'red'"),
    "two classes of one id": (CLASSES + CLASSES.replace('"Cow"', '"Bull"'), "two classes have the same id"),
    "two classes of one name": (CLASSES + CLASSES.replace('"cow"', '"bull"'), "two classes have the same name"),
    "a class without a name": ('[[classes]]\nid = "cow"', "classes.*name"),
    "classes that are none": ("classes = 3", "classes"),
    "shares above one": (CLASSES + "[splits]\ntrain = 0.9\nvalidation = 0.2", "0.9.*0.2"),
    "a source that is no folder name": (CLASSES + '[[sources]]\nname = "my phone"', "sources.*my phone"),
    "a section that is a number": ("cleansing = 3" + CLASSES, "cleansing"),
    "what is not TOML": ("[[classes", "not valid TOML"),
}


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD)
def test_a_bad_setting_is_refused_in_one_line_that_names_it_and_the_file(place: Path, text: str, message: str) -> None:
    write(text)
    with pytest.raises(SettingsError, match=message) as caught:
        load_settings()
    assert str(place / "farmy.toml") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "Value error" not in str(caught.value)


def test_all_bad_settings_are_named_at_once() -> None:
    write("workers = 0\nwatch_days = 0" + CLASSES)
    with pytest.raises(SettingsError, match=r"workers: .*; watch_days: |watch_days: .*; workers: "):
        load_settings()


def test_a_bad_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    write(CLASSES)
    monkeypatch.setenv("FARMY_WORKERS", "five")
    with pytest.raises(SettingsError, match=r"FARMY_\* variables are not valid: workers: .*integer"):
        load_settings()


def test_a_variable_that_does_not_parse_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    write(CLASSES)
    monkeypatch.setenv("FARMY_CLASSES", "nonsense")
    with pytest.raises(SettingsError, match=r'A FARMY_\* variable cannot be read: .*"classes".*JSON'):
        load_settings()


def test_the_nearest_file_upwards_is_read(place: Path) -> None:
    write(CLASSES)
    (place / "below" / "deeper").mkdir(parents=True)
    assert find_config({}, place / "below" / "deeper") == place / "farmy.toml"
    (place / "below" / "farmy.toml").write_text(CLASSES)
    assert find_config({}, place / "below" / "deeper") == place / "below" / "farmy.toml"


def test_without_a_file_upwards_the_checkouts_own_is_read(place: Path) -> None:
    assert find_config({}, place) == CHECKOUT / "farmy.toml"


def test_a_named_file_is_the_only_one_that_is_read(place: Path) -> None:
    write(CLASSES)
    (place / "other.toml").write_text("")
    assert find_config({"FARMY_CONFIG": str(place / "other.toml")}, place) == place / "other.toml"
    with pytest.raises(SettingsError, match=r"no settings file .*missing\.toml.*FARMY_CONFIG"):
        find_config({"FARMY_CONFIG": str(place / "missing.toml")}, place)


def test_the_checkouts_own_settings_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARMY_CONFIG", str(CHECKOUT / "farmy.toml"))
    assert len(load_settings().classes) > 1


def test_a_project_without_classes_is_refused() -> None:
    write("classes = []")
    with pytest.raises(SettingsError, match="classes"):
        load_settings()


@pytest.mark.parametrize("letter", ["?", "#", "%"])
def test_a_home_that_no_address_can_hold_is_refused(monkeypatch: pytest.MonkeyPatch, letter: str) -> None:
    write(CLASSES)
    monkeypatch.setenv("FARMY_HOME", f"my{letter}lake")
    with pytest.raises(SettingsError, match="home"):
        load_settings()


def test_who_is_told_of_failures_is_set_by_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    write(CLASSES)
    monkeypatch.setenv("FARMY_ALERT_WEBHOOK", "https://hooks.example.org/services/s3cret")
    monkeypatch.setenv("FARMY_ALERT_TOPIC", "arn:aws-cn:sns:cn-north-1:123456789012:farmy_alerts-1")
    monkeypatch.setenv("FARMY_DAGSTER_URL", "https://farm.example.org/dagster")
    settings = load_settings()
    assert "s3cret" not in f"{settings!r} {settings.model_dump(mode='json')}"
    assert list_secrets(settings)[:1] == ("https://hooks.example.org/services/s3cret",)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FARMY_ALERT_WEBHOOK", "hooks.example.org/s3cret"),
        ("FARMY_ALERT_WEBHOOK", "ftp://hooks.example.org/s3cret"),
        ("FARMY_ALERT_WEBHOOK", "https:///s3cret"),
        ("FARMY_ALERT_TOPIC", "farmy-alerts"),
        ("FARMY_ALERT_TOPIC", "arn:aws:sqs:eu-west-1:123456789012:alerts"),
        ("FARMY_DAGSTER_URL", "farm.example.org"),
        ("FARMY_LOG_TO", "syslog"),
    ],
)
def test_an_address_that_cannot_be_one_is_refused_without_showing_a_secret(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    write(CLASSES)
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name.removeprefix("FARMY_").lower()) as caught:
        load_settings()
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("name", ["label_studio_token", "alert_webhook"])
def test_a_secret_in_the_file_is_refused_without_being_shown(name: str) -> None:
    write(f'{name} = "https://s3cret.example.org"' + CLASSES)
    with pytest.raises(SettingsError, match=f"FARMY_{name.upper()}") as raised:
        load_settings()
    assert "s3cret" not in str(raised.value)
