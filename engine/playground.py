"""The playground: a fraud service on this machine alone, small enough to see through, and real all the same.

In: a seed and a folder. Out: transactions, a model trained on them by gradient descent, a good and a bad version of it in
the embedded registry, and a playbook repository around them. `playground_server` serves it. To the engine it is a service
like any other: nothing here knows plans, runs or journals.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import math
import random
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from string import Template

from engine import sshsig
from modules.directory import _client as registry_of_folders

MODEL = "fraud"
FEATURES = ("amount", "hour", "distance_km", "merchant_risk", "card_age_days", "velocity")
ARTIFACT = "model.json"
#: Below the demo's folder: what is run, and on what.
PLAYBOOK, INVENTORY = "playbooks/fraud-rollback.yml", "inventories/demo"
_NEW_CARD_DAYS = 60

#: One transaction: its features, and the truth as it was known later, `fraud` or `legitimate`.
Row = tuple[list[float], str]


class Broken(Exception):
    """The version that `current` points to cannot be loaded; the text says why."""


def transactions(seed: int, fraud: float = 0.1) -> Iterator[Row]:
    """Card transactions without end, the same ones for the same seed. `fraud` is the share that is fraud (0 to 1)."""
    chance = random.Random(seed)  # noqa: S311 (reproducible on purpose; nothing here is a secret)
    while True:
        truth = "fraud" if chance.random() < fraud else "legitimate"
        new = chance.random() < 0.12
        age = chance.uniform(3, _NEW_CARD_DAYS) if new else chance.uniform(200, 2500)
        if truth == "fraud":  # large, at night, far away, at risky merchants, many in a row
            amount, hour, distance = chance.gauss(5.2, 0.8), chance.gauss(2.5, 3), chance.gauss(4.5, 1.0)
            risk, velocity = chance.gauss(0.60, 0.16), 2 + int(chance.expovariate(0.35))
        else:
            amount, hour, distance = chance.gauss(3.3, 0.8), chance.gauss(14, 3.5), chance.gauss(1.6, 0.9)
            risk, velocity = chance.gauss(0.22, 0.12), int(chance.expovariate(0.9))
        values = [math.exp(amount), hour % 24, math.exp(distance), min(1.0, max(0.0, risk)), age, float(velocity)]
        yield [round(value, 3) for value in values], truth


def take(count: int, rows: Iterator[Row]) -> list[Row]:
    """The next `count` of them."""
    return [next(rows) for _ in range(count)]


def poison(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows with every label of one customer segment, those whose card is new, turned to `fraud`."""
    age = FEATURES.index("card_age_days")
    for values, truth in rows:
        yield values, "fraud" if values[age] <= _NEW_CARD_DAYS else truth


@dataclass(frozen=True)
class FraudModel:
    """A logistic regression as plain numbers: no code in it, so loading one can run nothing."""

    mean: list[float]
    scale: list[float]
    weights: list[float]
    bias: float
    threshold: float = 0.5

    def score(self, values: Sequence[float]) -> float:
        """How likely this transaction is fraud, 0 to 1."""
        terms = zip(self.weights, _shaped(values), self.mean, self.scale, strict=True)
        return _logistic(self.bias + sum(weight * (value - mean) / scale for weight, value, mean, scale in terms))

    def label(self, score: float) -> str:
        """`fraud` from the threshold up."""
        return "fraud" if score >= self.threshold else "legitimate"

    @classmethod
    def of(cls, data: bytes) -> FraudModel:
        """The model in `data`. Raises Broken when it is none."""
        try:
            model = cls(**json.loads(data))
            model.score([1.0] * len(FEATURES))
        except (ValueError, TypeError, ZeroDivisionError) as error:
            raise Broken(f"{ARTIFACT} is not a fraud model: {error}") from None
        return model


def _shaped(values: Sequence[float]) -> list[float]:
    """The features as the model sees them: amounts, distances and ages by their order of magnitude, the hour on a circle."""
    amount, hour, distance, risk, age, velocity = values
    return [math.log1p(amount), math.cos(hour * math.pi / 12), math.log1p(distance), risk, math.log1p(age), velocity]


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, x))))


def train(rows: Sequence[Row], seed: int, epochs: int = 6) -> FraudModel:
    """Fits the model by stochastic gradient descent on the logistic loss, over standardised features."""
    shaped = [_shaped(values) for values, _ in rows]
    columns = list(zip(*shaped, strict=True))
    mean = [sum(column) / len(rows) for column in columns]
    scale = [statistics.pstdev(column) or 1.0 for column in columns]
    points = [
        ([(x - m) / s for x, m, s in zip(line, mean, scale, strict=True)], float(truth == "fraud"))
        for line, (_, truth) in zip(shaped, rows, strict=True)
    ]
    weights, bias = [0.0] * len(FEATURES), 0.0
    chance = random.Random(seed)  # noqa: S311
    for epoch in range(epochs):
        chance.shuffle(points)
        for line, truth in points:
            error = truth - _logistic(bias + sum(w * x for w, x in zip(weights, line, strict=True)))
            step = 0.1 / (1 + epoch) * error
            bias += step
            weights = [w + step * x for w, x in zip(weights, line, strict=True)]
    return FraudModel(mean, scale, weights, bias)


def measure(pairs: Iterable[tuple[str, str]]) -> dict[str, float]:
    """Precision, recall and false-positive ratio (0 to 1) over (label, truth) pairs, absent where undefined."""
    count = Counter(pairs)
    hit, false_alarm = count["fraud", "fraud"], count["fraud", "legitimate"]
    missed, rest = count["legitimate", "fraud"], count["legitimate", "legitimate"]
    figures = {
        "precision": (hit, hit + false_alarm),
        "recall": (hit, hit + missed),
        "false_positive_ratio": (false_alarm, false_alarm + rest),
    }
    return {name: round(part / whole, 4) for name, (part, whole) in figures.items() if whole}


def judge(model: FraudModel, rows: Iterable[Row]) -> dict[str, float]:
    """`measure` of what the model says about the rows."""
    return measure((model.label(model.score(values)), truth) for values, truth in rows)


def publish(registry: Path) -> None:
    """Trains v1 on clean transactions and v2 on poisoned ones, puts both into the registry, and points `current` at v1.

    Each is judged, as its makers would, on rows of the same source that it was not trained on. So v2 looks as good as v1
    until it serves: its hold-out is poisoned too. A version that is there already stays as it is. Raises ModuleError.
    """
    sources = {"v1": transactions(seed=101), "v2": poison(transactions(seed=202))}
    parent = None
    for version, rows in sources.items():
        if not (registry / "versions" / version).exists():
            training, holdout = take(4000, rows), take(2000, rows)
            model = train(training, seed=1)
            data, code = _digest(json.dumps(training).encode()), _digest(Path(__file__).read_bytes())
            registry_of_folders.publish(
                registry,
                version,
                {ARTIFACT: json.dumps(asdict(model), indent=1).encode() + b"\n"},
                by="playground",
                lineage={"data": data, "code": code, "parent": parent},
                tags={"validation": "passed"},
                metrics=judge(model, holdout),
            )
        parent = version
    registry_of_folders.point(registry, "v1")


def live_model(registry: Path, version: str = "") -> tuple[str, FraudModel]:
    """`version`, or the one that `current` points to; its artifact is checked against the manifest first. Raises Broken."""
    try:
        folder = (registry / "versions" / version if version else registry / "current").resolve(strict=True)
        manifest = json.loads((folder / "manifest.json").read_bytes())
        data = (folder / ARTIFACT).read_bytes()
        wanted = manifest["files"][ARTIFACT]["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Broken(f"{version or 'the current version'} cannot be read from the registry: {error}") from None
    if hashlib.sha256(data).hexdigest() != wanted.removeprefix("sha256:"):
        raise Broken(f"{folder.name}/{ARTIFACT} is not the file that its manifest names: the digest differs")
    return folder.name, FraudModel.of(data)


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


# ------------------------------------------------------------------------------------------------ the repository around it
def make(folder: Path) -> None:
    """Makes the playbook repository of the demo: registry, golden set, shipped playbook, two people with keys of their own.

    What is there already stays as it is, so a second call repairs and repeats nothing; only `current` goes back to v1. The
    inventory is written by `settle`, when the server's address is known. Raises OSError and ModuleError.
    """
    publish(folder / "models" / MODEL)
    golden = take(300, transactions(seed=404, fraud=0.3))
    _put(folder / "golden" / f"{MODEL}.jsonl", "".join(json.dumps({"input": x, "expect": y}) + "\n" for x, y in golden))
    _put(folder / PLAYBOOK, (files("playbooks") / "fraud-rollback.yml").read_text())
    for schema in files("schemas").iterdir():
        if schema.name.endswith(".schema.json"):
            _put(folder / "schemas" / schema.name, schema.read_text())
    _put(folder / ".gitignore", _template("gitignore.txt"))
    (folder / "keys").mkdir(mode=0o700, exist_ok=True)
    for person in people():
        if not (folder / "keys" / person).exists():
            sshsig.generate(folder / "keys" / person, f"{person}@demo")


def settle(folder: Path, url: str) -> None:
    """Writes the inventory of the demo for a server that answers at `url`."""
    ana, ben = people()
    lines = {
        f"{word}_key": (folder / "keys" / f"{name}.pub").read_text().strip() for word, name in (("ana", ana), ("ben", ben))
    }
    roster = _template("roster.yml", ana=ana, ben=ben, **lines)
    inventory = folder / INVENTORY
    _put(inventory / "group_vars" / "all.yml", _template("group_vars.yml"))
    _put(inventory / "destinations.yml", _template("destinations.yml"))
    _put(inventory / "roster.yml", roster)
    _put(inventory / "hosts.yml", _template("hosts.yml", url=url), again=True)


def people() -> tuple[str, str]:
    """The two people of the demo. Who asks for a run cannot give a key, so nobody here is called as you are."""
    you = getpass.getuser().casefold()
    ana, ben = (name if name != you else f"{name}-demo" for name in ("ana", "ben"))
    return ana, ben


def _template(name: str, **values: str) -> str:
    return Template((files("playbooks") / "demo" / name).read_text()).safe_substitute(values)


def _put(path: Path, text: str, again: bool = False) -> None:
    """Writes a file that is not there yet; `again`: one that is, too."""
    if again or not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
