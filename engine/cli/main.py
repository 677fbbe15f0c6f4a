"""The `engine` command: the table of verbs, and what every verb shares (exit codes, errors, no tracebacks).

A verb's file is imported when it is asked for, so `engine --help` costs one import of click.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from engine import __version__
from engine.cli import keeping
from engine.diagnostics import EngineError, Exit, did_you_mean, render

#: verb -> (help in one line, group). The file is engine/cli/<verb>.py unless FILES says otherwise.
VERBS: dict[str, tuple[str, str]] = {
    "run": ("Run a playbook or a saved plan: plan, ask for keys, change, verify, report.", "roll back"),
    "plan": ("Show what a playbook would change now. Changes nothing.", "roll back"),
    "validate": ("Check playbooks: every mistake at once. Contacts nobody.", "roll back"),
    "approve": ("Give a key to a run that waits for one.", "roll back"),
    "reject": ("Refuse a run that waits for a key. It is final.", "roll back"),
    "ratify": ("The second key for a run that one person let through alone.", "roll back"),
    "resume": ("Go on after a crash, a failure, a stop or a wait.", "roll back"),
    "resolve": ("Say what became of a step that nobody can read.", "roll back"),
    "undo": ("Put back what a run has changed.", "roll back"),
    "waive": ("Let a capture pass that failed, on record.", "roll back"),
    "cancel": ("Stop a run at the next safe point.", "roll back"),
    "status": ("Where a run stands: safe? waiting for what? what next?", "look"),
    "runs": ("List the runs.", "look"),
    "report": ("Write the report of a run: HTML, Markdown, JSON.", "look"),
    "state": ("Move a whole record to another store, and back.", "look"),
    "evidence": ("Seal, show and verify the evidence of runs.", "look"),
    "note": ("Add a line to a run's record.", "look"),
    "locks": ("What is held, by which run and process; break what hangs.", "look"),
    "ledger": ("Which version served where and when, and which must never come back.", "look"),
    "observe": ("Put on record what serves now, as registries and endpoints say.", "look"),
    "roster": ("Who may give which key, and is it signed? Change, sign, pin it.", "look"),
    "candidates": ("Which versions could be gone back to, each with its reason.", "look"),
    "explain": ("Where a variable's value comes from.", "look"),
    "graph": ("Draw a playbook: text, DOT, Mermaid, SVG.", "look"),
    "inventory": ("List hosts, groups and variables.", "look"),
    "doc": ("Look up a module, a keyword, a diagnostic, the exit codes.", "look"),
    "lint": ("Review a playbook against a profile.", "write"),
    "init": ("Make a playbook repository.", "write"),
    "demo": ("A whole rollback on this machine, in a minute.", "write"),
}
FILES = {"reject": "approve"}


class Verbs(click.Group):
    """Loads a verb's file when it is named; knows likely spellings; shows the verbs by what they are for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The verbs, in the table's order."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002
        """Imports the verb's file."""
        if name not in VERBS:
            return None
        module = importlib.import_module(f"engine.cli.{FILES.get(name, name)}")
        found: click.Command = getattr(module, name if name in FILES else "command")
        return found

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Refuses an unknown verb with the likely one."""
        if args and args[0] not in VERBS:
            raise click.UsageError(
                f"no command `{args[0]}`. {did_you_mean(args[0], VERBS, 'engine --help lists the commands')}"
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The verbs by what they are for."""
        for group in dict.fromkeys(group for _, group in VERBS.values()):
            with formatter.section(group.capitalize()):
                formatter.write_dl([(verb, text) for verb, (text, of) in VERBS.items() if of == group])


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Exit codes: engine doc exit-codes. First minute: engine demo.",
)
@click.version_option(__version__, prog_name="engine")
@click.option(
    "--state",
    envvar="LASTGOOD_STATE",
    default=".lastgood",
    show_default=True,
    callback=keeping.no_password,
    help="Where runs are kept: a folder, or postgresql://USER@HOST/DATABASE for several machines.",
)
@click.option(
    "--files",
    envvar="LASTGOOD_FILES",
    default=".lastgood",
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="With a database: the folder of this machine for evidence and reports.",
)
@click.option("--debug", is_flag=True, help="Show the traceback of an internal error.")
@click.pass_context
def cli(ctx: click.Context, state: str, files: Path, debug: bool) -> None:
    """Take AI models back to their last known-good version.

    \b
    engine run playbooks/fraud.yml -i inventories/production
    engine status RB-0001 --follow
    """
    ctx.obj = {"state": state, "files": files, "debug": debug}


def main(argv: Sequence[str] | None = None) -> None:
    """The entry point. Ends the process with the exit code that the command earned."""
    sys.exit(run(list(sys.argv[1:] if argv is None else argv)))


def run(argv: list[str]) -> int:
    """Runs one command line; returns its exit code. Prints every error as people should see it."""
    debug = "--debug" in argv
    if any("\udc80" <= char <= "\udcff" for arg in argv for char in arg):
        click.echo("Error: an argument is not UTF-8", err=True)
        return Exit.USAGE
    try:
        result: Any = cli.main(argv, prog_name="engine", standalone_mode=False)
        return int(result) if isinstance(result, int) else Exit.DONE
    except click.UsageError as error:
        error.show()
        return Exit.USAGE
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted before anything was changed", err=True)
        return Exit.INTERRUPTED
    except EngineError as error:
        click.echo(render(error.diagnostics), err=True)
        if error.diagnostics and error.exit == Exit.INVALID:
            click.echo(f"next: engine doc {min(one.code for one in error.diagnostics)}", err=True)
        return int(error.exit)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.DONE
    except Exception as error:
        if debug:
            raise
        return _bug(error, argv)


def _bug(error: Exception, argv: list[str]) -> int:
    """Exit 70: a report that can be sent as it is, without values."""
    import platform
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    lines = [
        f"engine {__version__}, Python {platform.python_version()}, {platform.system()}",
        f"command: {next((arg for arg in argv if arg in VERBS), '')}",
    ]
    lines += [f"{Path(f.filename).name}:{f.lineno} in {f.name}" for f in frames] + [type(error).__name__]
    path = Path(".lastgood-bug.txt")
    try:
        path.write_text("\n".join(lines) + "\n", "utf-8")
        where = f"a report without any of your data is in {path}"
    except OSError:
        where = "\n".join(lines)
    click.echo(
        f"error[LG999]: this is our mistake, not yours: {type(error).__name__}\n  = {where}\n"
        "  = help: engine --debug shows all of it",
        err=True,
    )
    return Exit.BUG
