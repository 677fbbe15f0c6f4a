"""`engine demo`: a whole rollback on this machine, told act by act.

The service runs in this process, so it ends with it. Everything else is as in any run: `engine run` and `engine approve` are
processes of their own, and the keys are signatures of two (made-up) people.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from engine import journal, playground
from engine.diagnostics import Exit
from engine.playground import INVENTORY, MODEL, PLAYBOOK
from engine.playground_server import Service
from modules._wire import Wire
from modules.contract import ModuleError, expect_ok
from modules.directory import _client as registry

_MARK = "demo.json"
#: A process that is the engine in another folder: what a person types there, `engine …`. When the demo is gone it stops, as
#: by Ctrl-C, because nobody would give it its keys.
_ENGINE = """
import os, signal, sys, threading, time
def watch(demo=os.getppid()):
    while os.getppid() == demo:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=watch, daemon=True).start()
os.chdir(sys.argv.pop(1))
from engine.cli.main import main
main()
"""


@click.command("demo", epilog="Reference: docs/reference/commands.md")
@click.option(
    "--folder", type=click.Path(path_type=Path, file_okay=False), default="demo", show_default=True, help="Where to make it."
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Port of the service; 0 takes a free one.  [default: 0]"
)
@click.option("--keep", is_flag=True, help="Leave the service running after the story, until Ctrl-C.")
@click.option("--serve", is_flag=True, help="Only run the service, with the bad version live, until Ctrl-C.")
def command(folder: Path, port: int, keep: bool, serve: bool) -> int:
    """A whole rollback on this machine, in under a minute.

    \b
    engine demo
    engine demo --keep            and try things afterwards
    engine demo --serve           the service alone, with the bad version live: roll it back yourself

    Makes a small fraud service, lets a bad version of it go live, and takes it back with a playbook and two keys. Nothing
    leaves this machine, and nothing is left running.
    """
    _refuse_foreign(folder, serve)
    try:
        with _service(folder, port) as service:
            if serve:
                _deploy(folder, service, "v2")
            code = Exit.DONE if serve else _story(folder, service)
            if serve or (keep and not code):
                _stay(folder, service)
        return code
    except KeyboardInterrupt:
        click.echo("\nInterrupted. The service has ended with this command; engine demo begins again.", err=True)
        return Exit.INTERRUPTED
    except (ModuleError, OSError) as error:
        click.echo(f"\nThe demo cannot go on: {error}", err=True)
        return Exit.FAILED


def _refuse_foreign(folder: Path, serve: bool) -> None:
    """Only an empty folder or an earlier demo is ours to write to."""
    if (folder / _MARK).is_file():
        return
    if serve:
        raise click.UsageError(f"there is no demo in {folder}/; `engine demo --folder {folder}` makes one")
    if folder.exists() and any(folder.iterdir()):
        other = "--folder another-name"
        raise click.UsageError(f"{folder}/ is there already and is no demo, so it is left alone; choose one with {other}")


@contextmanager
def _service(folder: Path, port: int) -> Iterator[Service]:
    """The demo's repository, made or repaired, and its service running with v1."""
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / _MARK
    earlier = json.loads(mark.read_text())["port"] if mark.exists() else 0
    mark.write_text(json.dumps({"made_by": "engine demo", "port": earlier}) + "\n")
    playground.make(folder)
    models = folder / "models" / MODEL
    try:
        service = Service(models, port or earlier)
    except OSError:
        if port:
            raise click.UsageError(f"port {port} is taken; choose another, or leave --port out") from None
        service = Service(models)
    with service:
        playground.settle(folder, service.url)
        mark.write_text(json.dumps({"made_by": "engine demo", "port": int(service.url.rpartition(":")[2])}) + "\n")
        yield service


def _story(folder: Path, service: Service) -> int:
    """The five acts. Returns the exit code."""
    _act(1, "A fraud service goes live")
    _say(f"{folder}/ now holds a playbook repository and a model registry. v1 was trained on 4 000 card payments and")
    _say(f"serves at {service.url}; {service.rate} payments a second pass through it.")
    _wait(lambda: service.figures().get("precision", 0) > 0.95)
    _say(f"Its own metric page says: {_metric(service)}.")

    _act(2, "A bad version follows")
    metrics = registry.manifest(folder / "models" / MODEL, "v2")["metrics"]
    _deploy(folder, service, "v2")
    _say(f"v2 passed its makers' test (precision {metrics['precision']:.2f}) and is live. But somebody had poisoned its")
    _say("training data, and so the test's data too: every customer with a new card was labelled a fraudster.")
    _wait(lambda: service.figures().get("precision", 1) < 0.56)
    before = _tried(service)
    _say(f"Now: {_metric(service)}. Good customers are being declined.")

    _act(3, "The rollback")
    ana, ben = playground.people()
    _say(
        f"The playbook asks for two keys. {ana} (ml-oncall) and {ben} (fraud-risk) will give them as soon as they are asked."
    )
    _say(f"$ engine run {PLAYBOOK} -i {INVENTORY}")
    run, code = _rolled_back(folder, (ana, ben))

    if code:
        _say(f"The run ended with exit code {code}. Why: cd {folder} && engine status {run}")
        return code

    _act(4, "The proof")
    after = _tried(service)
    _say("The same 1 000 payments, whose truth is known, were sent to the service before and after:")
    for when, (version, figures) in (("before", before), ("after", after)):
        declined = f"{figures['false_positive_ratio']:.1%} of good customers declined"
        _say(f"  {when:7}{version:4} precision {figures['precision']:.3f}   {declined}")
    if after[0] != "v1" or after[1]["precision"] < 0.95:
        _say("The run says that it succeeded, and the predictions say otherwise: this is a mistake of ours.")
        code = Exit.BUG
    else:
        _next(folder, run)
    return code


def _deploy(folder: Path, service: Service, version: str) -> None:
    """What a deployment pipeline does: moves the link, then has the server load it."""
    registry.point(folder / "models" / MODEL, version)
    reply = Wire().http("POST", f"{service.url}/v2/repository/models/{MODEL}/load", json={})
    expect_ok(reply, f"the service did not load {version}")


def _rolled_back(folder: Path, people: tuple[str, str]) -> tuple[str, int]:
    """`engine run` as a process of its own, and a key by each of the people once it asks. Its run and its exit code."""
    store = journal.Journal(folder / ".lastgood")
    earlier, child, said = store.latest(), _start(folder, "run", PLAYBOOK, "-i", INVENTORY), list[str]()
    code = None
    try:
        while (code := _ended(child)) is None:
            run = store.latest()
            if not said and run and run != earlier and any(entry.kind == "key.asked" for entry in store.entries(run)):
                try:
                    said += [_approved(folder, run, person) for person in people]
                except ModuleError as error:
                    said.append(error.message)
                    os.kill(child, signal.SIGINT)  # as Ctrl-C would: it stops at the next safe point
            time.sleep(0.05)
    finally:
        while code is None and (code := _ended(child)) is None:
            time.sleep(0.05)
        run = store.latest() or ""
        store.close()
    for text in said:
        _say(text)
    return run, code


def _approved(folder: Path, run: str, person: str) -> str:
    """A key, given the ordinary way by another process. Raises ModuleError when it is not taken."""
    words = ["approve", run, "--key", f"keys/{person}", "--confirm", "v1", "--because", "good customers are declined"]
    done = Wire().command([sys.executable, "-c", _ENGINE, folder, *words], env={"SSH_AUTH_SOCK": ""}, timeout=60)
    if done.code:
        raise ModuleError(f"{person} could not give a key: {(done.err or done.out).strip()}")
    return f"{person}$ engine {' '.join(words[:6])}"


def _start(folder: Path, *words: str) -> int:
    """The engine as a process of its own on this terminal, without input. Its process id."""
    argv = [sys.executable, "-c", _ENGINE, str(folder), *words]
    return os.posix_spawn(
        sys.executable, argv, os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
    )


def _ended(child: int) -> int | None:
    """The exit code of a process that has ended."""
    done, status = os.waitpid(child, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


def _tried(service: Service) -> tuple[str, dict[str, float]]:
    """What the service answers to payments whose truth is known: its version and `playground.measure`."""
    rows = playground.take(1000, playground.transactions(seed=505))
    inputs = [{"name": "transactions", "shape": [len(rows), 6], "datatype": "FP64", "data": [values for values, _ in rows]}]
    reply = Wire().http("POST", f"{service.url}/v2/models/{MODEL}/infer", json={"inputs": inputs}).json()
    labels = reply["outputs"][0]["data"]
    return reply["model_version"], playground.measure(zip(labels, (truth for _, truth in rows), strict=True))


def _metric(service: Service) -> str:
    figures = service.figures()
    return ", ".join(
        f"{MODEL}_{name} {figures[name]:.3f}" for name in ("precision", "false_positive_ratio") if name in figures
    )


def _wait(holds: Callable[[], bool], most: float = 30.0) -> None:
    """Until it holds, but never for ever: a busy machine may be late, and the story says what is."""
    deadline = time.monotonic() + most
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.05)


def _next(folder: Path, run: str) -> None:
    _act(5, "What to try next")
    for line in (
        f"cd {folder}",
        f"engine report {run}                 what happened, as one page",
        f"engine status {run} --replay 10x    the run once more, as it went",
        f"engine graph {PLAYBOOK}",
        "",
        "engine demo --folder . --serve        in another terminal: the service again, with the bad version live",
        f"engine plan {PLAYBOOK} -i {INVENTORY}",
        f"engine run {PLAYBOOK} -i {INVENTORY}",
        "engine approve --key keys/ana         and keys/ben, in a third terminal",
    ):
        _say(f"  {line}")


def _stay(folder: Path, service: Service) -> None:
    """Serves until Ctrl-C, which is how it is meant to end."""
    click.echo(f"\n{MODEL} {service.version} serves at {service.url} for {folder}/. Ctrl-C ends it.", err=True)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        click.echo("\nThe service has ended.", err=True)


def _act(number: int, title: str) -> None:
    click.echo(f"\n{number}/5  {title}", err=True)


def _say(text: str) -> None:
    click.echo(f"     {text}".rstrip(), err=True)
