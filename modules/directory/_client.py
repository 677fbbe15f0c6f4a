"""The embedded registry on disk: versions are folders that are never rewritten, `current` is a link to one of them.

    models/fraud/current -> versions/1.3.2
    models/fraud/versions/1.3.2/manifest.json     what the version consists of, and where it comes from
    models/fraud/versions/1.3.2/model.json        one of its files
    models/fraud/marks/1.3.2.json                 what was said of it later: name -> text

manifest.json holds `version`, `created` (ISO 8601, UTC), `by`, `files` (name -> sha256 in hex, size in bytes), `lineage`,
`tags` and `metrics`. Nothing here loads a model: files are bytes with a digest.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from modules import _disk
from modules.contract import Json, ModuleError

#: A version's name: it becomes a folder's name, so the alphabet is closed; names that move (`latest`) are no versions.
PATTERN = r"^(?!(?:[Ll][Aa][Tt][Ee][Ss][Tt]|current)$)(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+@=-]{0,127}")
_MANIFEST = "manifest.json"
_MANIFEST_LIMIT = 4 << 20


def checked(version: object) -> str:
    """The version's name if it may be one. Raises ModuleError."""
    if not isinstance(version, str) or "\n" in version or not re.search(PATTERN, version):
        raise ModuleError(
            f"{version!r:.80} is not the name of a version",
            "use letters, digits and . _ + - (64 at most); `latest` and `current` are no versions",
        )
    return version


def names(registry: Path) -> list[str]:
    """The names of all versions, sorted. Raises ModuleError when there is no registry."""
    try:
        found = [
            entry.name for entry in (registry / "versions").iterdir() if entry.is_dir() and not entry.name.startswith(".")
        ]
    except OSError as error:
        raise ModuleError(
            f"{registry} is not a registry: its folder `versions` cannot be read: {error.strerror}",
            "check `path`; a registry holds versions/<version>/manifest.json",
        ) from None
    return sorted(found)


def serving(registry: Path) -> str | None:
    """The version that `current` points to; None when there is no link. Raises ModuleError for anything else."""
    link = registry / "current"
    if not link.is_symlink():
        if link.exists():
            raise ModuleError(f"{link} is not a link", "move it into versions/ and let `current` be a link to it")
        return None
    target = PurePosixPath(link.readlink())
    if len(target.parts) != 2 or target.parts[0] != "versions":
        raise ModuleError(f"{link} points to {target}, which is not one of versions/")
    return checked(target.parts[1])


def manifest(registry: Path, version: str) -> dict[str, Json]:
    """What the version says of itself. Raises ModuleError when it is missing, unreadable or another version's."""
    folder = registry / "versions" / checked(version)
    if not folder.is_dir() or folder.is_symlink():
        raise ModuleError(
            f"missing version: {version} is not in {registry}", f"there are: {', '.join(names(registry)) or 'none'}"
        )
    try:
        with (folder / _MANIFEST).open("rb") as source:
            text = source.read(_MANIFEST_LIMIT)
    except OSError as error:
        raise ModuleError(f"{version}: {_MANIFEST} cannot be read: {error.strerror}") from None
    try:
        found = json.loads(text)
    except ValueError:
        raise ModuleError(f"{version}: {_MANIFEST} is damaged: it is not JSON") from None
    if why := _damage(found, version):
        raise ModuleError(f"{version}: {_MANIFEST} is damaged: {why}")
    return {"by": "", "tags": {}, "metrics": {}, "lineage": {}, **found}


def _damage(found: Json, version: str) -> str:
    """Why this is not the manifest of that version; an empty text when it is."""
    try:
        _check(found, version)
    except KeyError as error:
        return f"it lacks {error}"
    except (TypeError, AttributeError):
        return "it is not shaped like a manifest"
    except ValueError as error:
        return str(error)
    return ""


def _check(found: Json, version: str) -> None:
    """Raises ValueError, or what a wrong shape raises by itself."""
    if found["version"] != version:
        raise ValueError(f"it says that it is version {found['version']!r:.80}")
    if datetime.fromisoformat(found["created"]).utcoffset() is None:
        raise ValueError(f"`created` has no time zone: {found['created']!r:.80}")
    if not found["files"]:
        raise ValueError("it names no files")
    for name, about in found["files"].items():
        _inside(name)
        if not re.fullmatch(r"[0-9a-f]{64}", about["sha256"]) or type(about["size"]) is not int:
            raise ValueError(f"{name!r:.80} has no sha256 in hex or no size in bytes")
    for key in ("tags", "metrics", "lineage"):
        if not isinstance(found.get(key, {}), dict):
            raise ValueError(f"`{key}` is not a mapping")


def _inside(name: str) -> PurePosixPath:
    """A file's name as a path that stays inside its version. Raises ValueError."""
    path = PurePosixPath(name)
    if str(path) != name or name == _MANIFEST or not path.parts or not all(_NAME.fullmatch(part) for part in path.parts):
        raise ValueError(f"{name!r:.80} is not a file's name")
    return path


def digest(of: Mapping[str, Json]) -> str:
    """The identity of a version's content: sha256 over its files' names and digests, `sha256:<hex>`."""
    files = {name: about["sha256"] for name, about in of["files"].items()}
    return "sha256:" + hashlib.sha256(json.dumps(files, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def fault(registry: Path, of: Mapping[str, Json], between: Callable[[], object] = lambda: None) -> tuple[str, str]:
    """How the files on disk differ from the manifest: (`missing` or `differs`, why), or two empty texts. Reads every byte;
    `between` is called as it goes and may raise to stop."""
    folder = registry / "versions" / of["version"]
    for name, about in sorted(of["files"].items()):
        path = folder / name
        if path.is_symlink() or not path.is_file():
            return "missing", f"{of['version']}/{name} is not there"
        try:
            found = _disk.sha256(path, between) if path.stat().st_size == about["size"] else "of another size"
        except OSError as error:
            return "missing", f"{of['version']}/{name} cannot be read: {error.strerror}"
        if found != about["sha256"]:
            return (
                "differs",
                f"digest differs: {of['version']}/{name} is {found[:16]}, its manifest says {about['sha256'][:16]}",
            )
    known = {_MANIFEST, *of["files"]}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name not in known and (path.is_symlink() or not path.is_dir()):
            return "differs", f"{of['version']}/{name} is not in its manifest"
    return "", ""


def point(registry: Path, version: str | None) -> None:
    """Lets `current` point to `version`, or takes the link away, in one durable step. Raises ModuleError."""
    link = registry / "current"
    with _disk.told(f"{link} cannot be moved"):
        if version is None:
            link.unlink(missing_ok=True)
        else:
            aside = registry / f".current.{secrets.token_hex(6)}"
            aside.symlink_to(f"versions/{checked(version)}")
            try:
                aside.replace(link)
            except BaseException:
                aside.unlink(missing_ok=True)
                raise
        _disk.sync(registry)


def marks(registry: Path, version: str) -> dict[str, str]:
    """What was said of the version after it was published. Raises ModuleError when that cannot be read."""
    path = registry / "marks" / f"{checked(version)}.json"
    try:
        with path.open("rb") as source:
            found = json.loads(source.read(_MANIFEST_LIMIT))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ModuleError(f"the marks of {version} cannot be read: {error.strerror}", f"look at {path}") from None
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ModuleError(f"the marks of {version} are damaged: no JSON of texts", f"look at {path}")
    return found


def mark(registry: Path, version: str, key: str, value: str | None) -> None:
    """Says this of the version, or (None) no more, in one durable step. Raises ModuleError."""
    found = {name: text for name, text in marks(registry, version).items() if name != key}
    found |= {} if value is None else {key: value}
    path = registry / "marks" / f"{checked(version)}.json"
    with _disk.told(f"the marks of {version} cannot be written"):
        path.parent.mkdir(exist_ok=True)
        _disk.write(path, json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n", 0o644)
        _disk.sync(registry)


def publish(
    path: Path,
    version: str,
    files: Mapping[str, bytes],
    *,
    by: str,
    created: datetime | None = None,
    lineage: Mapping[str, Json] | None = None,
    tags: Mapping[str, Json] | None = None,
    metrics: Mapping[str, Json] | None = None,
) -> str:
    """Adds a version to the registry at `path` (made if need be) and returns its digest; what serves stays as it is.

    The folder is written aside, made durable and renamed, so a version is there whole or not at all. `created` is now
    unless given, and must know its time zone. Raises ModuleError when the version exists (none is ever rewritten) or a
    name is none.
    """
    checked(version)
    when = (created or datetime.now(UTC)).astimezone(UTC)
    about = {name: {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)} for name, content in files.items()}
    text = {
        "version": version,
        "created": when.isoformat(),
        "by": by,
        "files": about,
        "lineage": dict(lineage or {}),
        "tags": dict(tags or {}),
        "metrics": dict(metrics or {}),
    }
    if why := _damage(text, version):
        raise ModuleError(f"{version} cannot be published: {why}")
    versions = path / "versions"
    aside = versions / f".{version}.{secrets.token_hex(6)}"
    with _disk.told(f"{version} cannot be published"):
        aside.mkdir(parents=True)
        try:
            for name, content in {**files, _MANIFEST: json.dumps(text, indent=1, sort_keys=True).encode() + b"\n"}.items():
                (aside / name).parent.mkdir(parents=True, exist_ok=True)
                _disk.write(aside / name, content, 0o644)
            if (versions / version).exists():
                raise ModuleError(f"{version} exists already", "a version is never rewritten; publish under a new name")
            aside.rename(versions / version)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        _disk.sync(versions)
    return digest(text)
