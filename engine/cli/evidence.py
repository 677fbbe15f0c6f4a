"""`engine evidence`: a run's evidence sealed, shown, and verified by anybody who has nothing but a bundle."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.diagnostics import EngineError, Exit, printable

if TYPE_CHECKING:
    from engine.chain import Entry
    from engine.proof import Found


@click.group(epilog="Reference: docs/reference/commands.md")
def command() -> None:
    """Seal, show and verify the evidence of runs.

    \b
    engine evidence show RB-0007
    engine evidence verify .lastgood/runs/RB-0007/bundles --signer evidence.key.pub
    """


@command.command(epilog="Reference: docs/reference/commands.md")
@click.argument("run", required=False)
@click.option(
    "--evidence-key", type=click.Path(path_type=Path), default=None, help="The SSH key file of the run's evidence."
)
@click.pass_context
def seal(context: click.Context, /, run: str | None, evidence_key: Path | None) -> int:
    """Seal what of a run (the newest, if none is named) no bundle holds yet: evidence, journal, report.

    A run seals its evidence by itself, before the first change and at its end, and so does an undo; this is for notes that
    came later, and for a seal that failed.
    """
    from engine import seal as seals
    from engine.cli import running

    store = running.store(context, must_exist=True)
    run = running.known(store, run)
    store.claim(run)
    entries = store.verified(run)
    key = evidence_key or Path(entries[0].body.get("evidence_key") or "")
    signer = seals.signer(store.folder, key if key.name else None)
    known = next((one.body["evidence"] for one in reversed(entries) if one.body.get("evidence")), signer.key.line)
    if known.split()[:2] != signer.key.line.split()[:2]:
        said = f"{signer.key.fingerprint} is not the key with which {run} keeps its evidence ({known.split()[1][-12:]})"
        raise click.UsageError(f"{said}: no bundle by another one would count. Put it back, or name it with --evidence-key.")
    told = seals.make(store, run, signer)
    place = seals.folder(store, run)
    if told is None:
        click.echo(f"{run}: everything is sealed already.   next: engine evidence show {run}", err=True)
        return Exit.DONE
    for host, step, why in told.wrong:
        click.echo(f"{printable(host)} {printable(step)}: {printable(why, 200)}", err=True)
    said = f"{told.files} files, {told.size} bytes, entries to {told.last}"
    click.echo(f"{place / told.name}: {said}.   next: engine evidence verify {place}", err=True)
    return Exit.DONE


@command.command(epilog="Reference: docs/reference/commands.md")
@click.argument("run")
@click.argument("targets", nargs=-1, required=True)
@click.pass_context
def anchor(context: click.Context, /, run: str, targets: tuple[str, ...]) -> int:
    """Take the head of a run's newest bundle outside: file:PATH, git:REPOSITORY#BRANCH, or a time stamping service.

    `engine run --anchor TARGET` does it whenever a bundle is made; this is for later, and for a target that was down.
    """
    from engine import anchor as anchors
    from engine import custody
    from engine import seal as seals
    from engine.cli import running
    from modules._wire import Wire

    store = running.store(context, must_exist=True)
    run = running.known(store, run)
    if wrong := next((f"{one}: {why}" for one in targets if (why := anchors.misnamed(one))), ""):
        raise click.UsageError(wrong)
    entries = store.verified(run)
    told = seals.sealed(entries)
    if not told:
        raise click.UsageError(f"{run} has no sealed evidence: engine evidence seal {run}")
    key = next(entry.body["key"] for entry in reversed(entries) if entry.kind == "evidence.sealed")
    place = seals.folder(store, run) / told[-1].name
    at = time.time()
    text = anchors.line(place, told[-1], told[-2] if len(told) > 1 else None, key, custody.utc(at))
    found = [anchors.anchor(one, text, place, Wire(), at) for one in targets]
    for one in found:
        store.append(run, "evidence.anchored", anchors.body(told[-1], one))
        click.echo(f"{one.target}: {printable(one.why, 300) or one.where}", err=True)
    return Exit.FAILED if any(one.why for one in found) else Exit.DONE


@command.command(epilog="Reference: docs/reference/commands.md")
@click.argument("run", required=False)
@click.option("--json", "as_json", is_flag=True, help="The custody log, a row a line.")
@click.option("--proof", "item", default="", metavar="ITEM", help="The proof that this item is in the newest sealed log.")
@click.pass_context
def show(context: click.Context, /, run: str | None, as_json: bool, item: str) -> int:
    """Show what evidence a run (the newest, if none is named) has: every piece with who took it, when and from where."""
    from engine import seal as seals
    from engine.cli import running

    store = running.store(context, must_exist=True)
    run = running.known(store, run)
    told = seals.sealed(store.verified(run))
    if not told:
        click.echo(f"{run} has no sealed evidence.   next: engine evidence seal {run}", err=True)
        return Exit.FAILED
    lines = _log(seals.folder(store, run) / told[-1].name)
    log = [json.loads(line) for line in lines]
    if item:
        click.echo(json.dumps(_proof(lines, log, item, told[-1].name), indent=1))
    elif as_json:
        click.echo(b"\n".join(lines).decode())
    else:
        for row in log:
            click.echo(_row(row))
        for one in told:
            click.echo(f"{one.name}  {one.digest}  head {one.rows} {one.root}")
    click.echo(f"next: engine evidence verify {seals.folder(store, run)}", err=True)
    return Exit.DONE


def _log(folder: Path) -> list[bytes]:
    from engine import bag
    from engine import seal as seals

    try:
        return (folder / bag.DATA / seals.CUSTODY).read_bytes().splitlines()
    except OSError as error:
        raise click.UsageError(f"{folder} cannot be read: {error.strerror}. It was sealed there.") from None


def _row(row: dict[str, Any]) -> str:
    from engine import words

    what = row["item"] or row["path"] or row["step"]
    where = " ".join(filter(None, (row["host"], row["step"])))
    said = [row["phase"], f"{row['size']} bytes" if row["size"] is not None else "", row["source"] or "", row["why"]]
    said.append(words.offset(row["clock_offset"]))
    return f"{row['n']:>4}  {row['at']}  {printable(str(what), 100)}  {printable(where, 80)}  " + "; ".join(
        printable(str(one), 120) for one in said if one
    )


def _proof(lines: list[bytes], log: list[dict[str, Any]], item: str, name: str) -> dict[str, Any]:
    from engine import custody, merkle

    found = [row["n"] - 1 for row in log if item in (row["item"], row["path"])]
    if not found:
        raise click.UsageError(f"{item} is not in the custody log; engine evidence show lists what is")
    index, leaves = found[-1], [merkle.leaf(line) for line in lines]
    return {
        "bundle": name, "index": index, "size": len(lines), "root": custody.head(lines), "row": log[index],
        "proof": [one.hex() for one in merkle.inclusion(leaves, index)],
    }  # fmt: skip


@command.command(epilog="Reference: docs/reference/commands.md")
@click.argument("path", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--signer", "signers", multiple=True, type=click.Path(path_type=Path), help="A public key file: only these keys count."
)
@click.option(
    "--anchor", "anchors", multiple=True, type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="What is kept outside: a file of heads, or a time stamp (.tsr).",
)  # fmt: skip
@click.option(
    "--authority", type=click.Path(path_type=Path, exists=True), default=None,
    help="The time stamping service's root certificate (PEM).",
)  # fmt: skip
@click.option(
    "--journal", "store", default=None, help="A state folder, or the address of a database, whose record it must fit."
)
def verify(
    path: Path, signers: tuple[Path, ...], anchors: tuple[Path, ...], authority: Path | None, store: str | None
) -> int:
    """Verify a bundle, its archive (tar, tar.gz, zip), or a folder of bundles. Needs no network and no state folder.

    \b
    engine evidence verify RB-0007.1.tar
    engine evidence verify .lastgood/runs/RB-0007/bundles --signer evidence.key.pub --journal .lastgood
    engine evidence verify RB-0007.1 --anchor heads.jsonl --anchor RB-0007.1.tsr --authority tsa-root.pem
    """
    from engine import proof

    keys = [_key(one) for one in signers]
    recorded = _recorded(store) if store else None
    found = [_examined(one) for one in _bundles(path)]
    if not found:
        raise click.UsageError(f"{path} holds no bundle: a bundle is a folder with a bagit.txt, or an archive of one.")
    found.sort(key=lambda one: (str(one.said.get("run")), int(one.said.get("bundle") or 0)))
    for number, one in enumerate(found):
        if keys:
            proof.signed_by(one, keys)
        if recorded and one.said:
            proof.recorded(one, recorded(one.said["run"]))
        if one.said and one.said["previous"] and number and found[number - 1].said.get("run") == one.said["run"]:
            proof.follows(found[number - 1], one)
    proof.twice(found)
    outside = store is not None or any(one.suffix != ".tsr" for one in anchors)  # a stamp tells of one bundle alone
    for run in dict.fromkeys(one.said["run"] for one in found if one.said and not keys and not outside):
        proof.vouched([one for one in found if one.said and one.said["run"] == run])
    for one in found:
        _told(one)
    if recorded:
        _left(found, recorded)
    fits = [_anchored(one, authority, found) for one in anchors]
    whole = all(fits) and not any(one.faults for one in found)
    if whole:
        _unchecked(bool(keys), outside, found)
    return Exit.DONE if whole else Exit.FAILED


def _left(found: list[Found], recorded: Callable[[str], list[Entry]]) -> None:
    """Says what the record holds that no bundle does yet: that is no fault, and not covered either."""
    from engine import proof

    for run in dict.fromkeys(one.said["run"] for one in found if one.said):
        if left := proof.unsealed([one for one in found if one.said.get("run") == run], recorded(run)):
            first, last = left
            told = f"{run}: entries {first} to {last} of the record are in none of these bundles"
            click.echo(f"{told}.   next: engine evidence seal {run}", err=True)


def _anchored(path: Path, authority: Path | None, found: list[Found]) -> bool:
    """Holds the bundles against what is kept outside. Returns whether they fit."""
    from engine import anchor

    if path.suffix == ".tsr":
        if authority is None:
            raise click.UsageError(f"--anchor {path} is a time stamp: name the service's root with --authority")
        said, faults = anchor.stamped(path, authority, found)
    else:
        try:
            heads = anchor.Heads.read(path)
        except (OSError, ValueError) as error:
            raise click.UsageError(f"--anchor {path}: {error}") from None
        said, faults = f"{len(heads.lines)} heads, each grown out of the one before", heads.against(found)
    if not faults:
        click.echo(f"{path.name}: {said}")
    for fault in faults:
        click.echo(f"{path.name}: NOT THE SAME: {printable(fault.where, 120)}: {printable(fault.why, 300)}")
    return not faults


def _bundles(path: Path) -> Iterator[Path]:
    from engine import bag
    from engine import seal as seals

    def looks_like_one(folder: Path) -> bool:
        return any((folder / name).exists() for name in (bag.BAGIT, bag.MANIFEST, bag.TAGS, seals.ATTESTATION))

    if not path.is_dir() or looks_like_one(path):
        yield path
        return
    yield from (one for one in sorted(path.iterdir()) if looks_like_one(one) and not one.name.startswith("."))


def _examined(path: Path) -> Found:
    from engine import members, proof

    faults: list[members.Fault] = []
    found = proof.examine(members.of(path, faults), faults)
    found.file = path.name
    return found


def _key(path: Path) -> Any:
    from engine import sshsig

    try:
        return sshsig.public_key(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, sshsig.Refused) as error:
        raise click.UsageError(f"--signer {path}: {getattr(error, 'reason', error)}. Name the .pub file.") from None


def _recorded(state: str) -> Callable[[str], list[Entry]]:
    from engine import journal
    from engine.cli import keeping

    if not keeping.shared(state) and not (Path(state) / "journal.db").is_file():
        raise click.UsageError(f"--journal {state}: there is no journal in it. Name a state folder, such as .lastgood.")
    files = click.get_current_context().find_root().obj["files"]
    store = journal.Journal(keeping.opened(keeping.typed(state, "--journal"), files, journal.LEASE))
    click.get_current_context().call_on_close(store.close)

    def entries(run: str) -> list[Entry]:
        try:
            return store.verified(run)
        except EngineError as error:
            raise click.UsageError(error.diagnostics[0].summary) from None

    return entries


def _told(found: Found) -> None:
    from engine import words

    said = found.said
    if faults := sorted(set(found.faults), key=lambda fault: (fault.where != found.file, fault)):
        click.echo(f"{printable(found.name)}: NOT WHOLE, {words.plural(len(faults), 'fault')}")
        for fault in faults:
            click.echo(f"  {printable(fault.where, 120)}: {printable(fault.why, 300)}")
        return
    signer = found.signer.fingerprint if found.signer else "nobody"
    when = printable(said["sealed"])
    click.echo(
        f"{found.name}: whole. {said['files']} files, {said['bytes']} bytes, sealed {when} by {signer}\n"
        f"  journal from entry {said['journal']['first']} to {said['journal']['last']}; "
        f"custody log of {said['custody']['rows']} rows, head {said['custody']['root']}"
    )
    for gone in found.erased:
        said_so = f"erased {gone['at']} by {gone['by']}: {gone['because']}"
        click.echo(f"  {printable(str(gone['item']), 120)}: {printable(said_so, 300)}")
    for row in found.log:
        if row["kind"] in ("incomplete", "left out") and row["bundle"] == said["bundle"]:
            host, what, why = (str(one) for one in (row["host"], row["step"] or row["path"], row["why"]))
            click.echo(f"  {row['kind']}: {printable(host)} {printable(what, 100)}: {printable(why, 200)}")


@command.command(epilog="Reference: docs/reference/commands.md")
@click.argument("run")
@click.argument("item")
@click.option("--because", required=True, help="Why, for the record.")
@click.option("--as", "by", default=None, help="Who says it (default: the login name).")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def erase(context: click.Context, /, run: str, item: str, because: str, by: str | None, yes: bool) -> int:
    """Erase a file of sealed evidence: its bytes go, its digest stays, and the bundle still holds with a signed record.

    It reaches this machine alone: copies elsewhere are as they were. What was captured with `encrypt_for` is erased
    everywhere by destroying the keys.

    \b
    engine evidence erase RB-0007 wrong-requests.jsonl --because "request of the data subject, 2026-11-30"
    """
    from engine import erasure
    from engine import seal as seals
    from engine.cli import opening, running

    store = running.store(context, must_exist=True)
    run = running.known(store, run)
    store.claim(run)
    entries = store.verified(run)
    if not because.strip():
        raise click.UsageError("--because says why; without it nobody could tell later.")
    if not yes and not sys.stdin.isatty():
        raise click.UsageError("It cannot be brought back, and there is no terminal to ask on: say --yes")
    if not yes and not click.confirm(f"Erase {item} of {run}? It cannot be brought back", default=False, err=True):
        return Exit.INTERRUPTED
    key = Path(entries[0].body.get("evidence_key") or "")
    signer = seals.signer(store.folder, key if key.name else None)
    try:
        done = erasure.erase(store, run, item, because.strip(), opening.requester(by), signer, time.time)
    except (ValueError, OSError) as error:
        raise click.UsageError(str(error)) from None
    for one in done:
        click.echo(f"{one.bundle}: {one.item} is erased{'' if one.there else ', as it was already'}", err=True)
    click.echo(f"next: engine evidence verify {seals.folder(store, run)}", err=True)
    return Exit.DONE


def _unchecked(signer: bool, outside: bool, found: list[Found]) -> None:
    """What a bundle alone cannot show, and how it is asked."""
    left = []
    if not signer:
        left.append("whose key that is (--signer KEY.pub)")
    if not outside:
        left.append("whether anything newer was taken away (--anchor FILE, --journal STATE)")
    first = {one.said["run"] for one in found if one.said["bundle"] == 1}
    left += [f"what came before {one.name}" for one in found if one.said["bundle"] > 1 and one.said["run"] not in first]
    if left:
        click.echo(f"not checked: {'; '.join(left)}", err=True)
