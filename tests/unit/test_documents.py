"""The documents say what is so: commands, files and headings that they name exist; nothing names a machine."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from cli.main import farmy

CHECKOUT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    [*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/**/*.md"), *CHECKOUT.glob(".github/**/*.md")],
)
README = (CHECKOUT / "README.md").read_text()

# Written in pieces, so that this file does not hold what it looks for.
FORBIDDEN = {
    "a path of one machine": re.compile(
        "|".join([r"(?<![\w.}/-])/" + r"work\b(?!-)", "/" + r"root/", "/" + r"home/\w", "/" + "opt/"])
    ),
    "the address of a package registry": re.compile(
        "|".join(["pypi" + r"\.org", "pythonhosted" + r"\.org", "/simple" + "/", "registry" + r"\.npmjs"])
    ),
}


def list_tracked_files() -> list[Path]:
    command = ["git", "-c", f"safe.directory={CHECKOUT}", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=CHECKOUT, capture_output=True, check=True).stdout.decode()
    return [CHECKOUT / name for name in listed.split("\0") if name and (CHECKOUT / name).is_file()]


def list_links(document: Path) -> list[str]:
    text = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    return [target for target in targets if not target.startswith(("http://", "https://", "mailto:"))]


def list_code(document: Path) -> list[str]:
    """Return what stands between backticks and the lines of shell blocks."""
    text = document.read_text()
    blocks = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [*spans, *(line.strip() for block in blocks for line in block.splitlines())]


def list_farmy_calls(document: Path) -> list[list[str]]:
    calls = (shlex.split(code, comments=True) for code in list_code(document) if re.match(r"farmy [a-z]", code))
    return [call[1:] for call in calls]


def list_commands() -> set[str]:
    context = click.Context(farmy)
    return set(farmy.list_commands(context))


def name_document(document: Path) -> str:
    return document.relative_to(CHECKOUT).as_posix()


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_document)
def test_every_file_and_picture_that_a_document_links_exists(document: Path) -> None:
    missing = [link for link in list_links(document) if not (document.parent / link.partition("#")[0]).exists()]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_document)
def test_every_farmy_command_that_a_document_names_exists_with_its_options(document: Path) -> None:
    problems = [" ".join(call) for call in list_farmy_calls(document) if not is_call_possible(call)]
    assert problems == []


def is_call_possible(call: list[str]) -> bool:
    command: click.Command | None = farmy
    for word in call:
        if isinstance(command, click.Group):
            command = command.get_command(click.Context(command), word)
    if command is None:
        return False
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    return {word.strip("[]") for word in call if word.strip("[").startswith("--")} <= known


def test_the_readme_has_a_row_for_every_command() -> None:
    rows = re.findall(r"^\| (`farmy .*?) \|", README, flags=re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`farmy ([a-z]+)", row)} == list_commands()


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_document)
def test_every_make_target_that_a_document_names_exists(document: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (CHECKOUT / "Makefile").read_text(), flags=re.MULTILINE))
    named = [code.partition("#")[0].split() for code in list_code(document) if code.startswith("make ")]
    assert {word for call in named for word in call[1:] if "=" not in word} <= targets


def test_every_setting_that_the_readme_names_exists() -> None:
    from adapters.settings import Settings

    settings = set(Settings.model_fields) | {"config"}
    names = re.findall(r"FARMY_([A-Z0-9_]+)", README)
    sections = {name.lower().split("__")[0] for name in names}
    assert sections <= settings


def test_no_tracked_file_names_a_machine_or_a_registry() -> None:
    found = []
    for file in list_tracked_files():
        try:
            text = file.read_text()
        except UnicodeDecodeError:
            continue
        found += [
            f"{name_document(file)}: {what}: {match[0]}"
            for what, pattern in FORBIDDEN.items()
            for match in [pattern.search(text)]
            if match
        ]
    assert found == []


def test_no_document_waits_to_be_filled_in() -> None:
    unfinished = re.compile("|".join(["TO" + "DO", "FIX" + "ME", "FIG" + "URES"]))
    assert [name_document(document) for document in DOCUMENTS if unfinished.search(document.read_text())] == []


def test_the_benchmarks_that_the_documents_name_can_be_asked_for_help() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "benchmarks.loop", "--help"], cwd=CHECKOUT, capture_output=True, check=True
    )
    assert b"--images" in shown.stdout
