"""The `farmy` command: what it is made of, and how errors leave it.

Each subcommand imports what it needs when it runs, so that `farmy --help` is quick.
"""

import gc
import importlib
import sys
from typing import Any

import click

from cli.output import notices
from lakehouse.errors import FarmyError

_COMMANDS = {
    "up": "cli.up",
    "demo": "cli.demo",
    "submit": "cli.submit",
    "presign": "cli.presign",
    "label": "cli.label",
    "status": "cli.status",
    "run": "cli.run",
    "plan": "cli.plan",
    "query": "cli.query",
    "trace": "cli.trace",
    "export": "cli.export",
    "release": "cli.release",
    "reconcile": "cli.reconcile",
    "doctor": "cli.doctor",
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(_COMMANDS[cmd_name])
        command: click.Command = getattr(module, cmd_name)
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="farmy-lakehouse", prog_name="farmy")
def farmy() -> None:
    """From raw images to labelled, versioned datasets and models.

    Start with `farmy demo`, then `farmy up`. Every command has --help with an example.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run one command; exit 0 on success, 1 if it failed, 2 if it was called wrongly."""
    # Importing makes many objects that stay: looking for garbage among them is a tenth of what a short command costs.
    gc.set_threshold(100_000, 50, 50)
    try:
        result: Any = farmy.main(arguments, prog_name="farmy", standalone_mode=False)
    except click.exceptions.Abort:
        notices.print("Stopped.")
        sys.exit(130)
    except KeyboardInterrupt:
        notices.print("Stopped.")
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except FarmyError as error:
        notices.print("farmy:", style="bold red", end=" ")
        notices.print(str(error), highlight=False, soft_wrap=True, markup=False)
        sys.exit(1)
    sys.exit(result if isinstance(result, int) else 0)
