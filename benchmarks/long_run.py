"""Writes the journal of a long run that was cut off: every step of every host but the last has its intent and outcome.

Usage: long_run.py PLAYBOOK INVENTORY STATE HOSTS. The entries are what a run writes, made through the journal itself.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from engine import __version__, journal
from engine.cli import opening


def main(playbook: Path, inventory: str, state: Path) -> None:
    ready = opening.opened(playbook, [inventory])
    plan, store = ready.plan, journal.Journal(state)
    document = plan.document()
    run = store.start(
        {
            "plan": document, "digest": plan.digest, "playbook": document["shown"], "name": plan.playbook.name,
            "strategy": plan.playbook.strategy, "requester": "bench", "hosts": [row.name for row in plan.hosts],
            "batches": [list(batch) for batch in plan.batches], "options": document["options"], "check": False,
            "engine": __version__, "base": str(playbook.parent.resolve()), "inventories": [str(Path(inventory).resolve())],
            "from_plan": False,
        }
    )  # fmt: skip
    store.append(run, "authority.settled", {"decision": "automatic", "why": "the playbook asks nobody", "people": []})
    steps = plan.playbook.section("execution")
    for row in plan.hosts:
        rows = []
        for step in steps[:-1]:
            change = {"before": None, "after": {"value": "1"}}
            said = {"change": change, "attempt": 1, "key": "0" * 32, "module": step.module, "crash": "B"}
            rows.append(("step.intent", {**said, "params": {"path": f"cells/{row.name}", "value": "1"}}, row.name, step.id))
            done = {
                "outcome": "changed", "module": step.module, "name": step.name, "reading": {"value": "1"}, "change": change,
                "started": time.time(), "seconds": 0.001, "attempts": 1, "why": "", "hint": "",
                "register": None, "at": str(step.place()),
            }  # fmt: skip
            rows.append(("step.outcome", done, row.name, step.id))
        store.append_all(run, rows)
    store.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
