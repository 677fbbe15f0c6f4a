"""What Ansible's readers may write out of habit, and how this language says it.

In: diagnostics of unknown keys. Out: the same, with the hint that helps somebody who comes from there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from engine.diagnostics import Diagnostic

#: A key of Ansible's -> what to write here. Keys that mean the same in both are not listed.
WORDS = {
    "any_errors_fatal": "write `max_failed: 0` at the top; that is the default",
    "args": "write the parameters below the module",
    "async": "write `timeout:`; steps that may run together do",
    "become": "leave it out: modules speak to services, not to shells",
    "become_user": "leave it out: modules speak to services, not to shells",
    "changed_when": "leave it out: changed is what the second reading finds",
    "check_mode": "leave it out: engine run --check walks the whole playbook without changing anything",
    "connection": "leave it out: a module's own parameters say where it goes",
    "delegate_to": "write the other service's address into the parameters",
    "depends_on": "write `needs:`",
    "environment": "leave it out; the module `command` has `env`",
    "failed_when": "write `until:` with what must hold",
    "gather_facts": "leave it out: nothing is gathered beforehand",
    "handlers": "write a step with `when: name.changed`: a crash cannot lose it",
    "if": "write `when:`",
    "ignore_errors": "write `on_failure: continue`",
    "ignore_unreachable": "write `on_failure: continue`",
    "import_playbook": "write `- import: FILE` with a file that holds a list of steps",
    "import_tasks": "write `- import: FILE`",
    "include_role": "write `- import: FILE`",
    "include_tasks": "write `- import: FILE`",
    "include_vars": "put variables into group_vars/ beside the inventory, or under `vars:`",
    "listen": "write a step with `when: name.changed`",
    "local_action": "write the module itself",
    "loop_control": "leave it out: the item is called `item`",
    "max_fail_percentage": "write `max_failed: 10%`",
    "poll": "write `delay:`",
    "post_tasks": "write `verification:`",
    "pre_tasks": "write `forensics:`",
    "remote_user": "leave it out: modules speak to services, not to shells",
    "roles": "people's roles stand under `authority:`; steps of another file come by `- import: FILE`",
    "tasks": "write `execution:`",
    "vars_files": "put variables into group_vars/ beside the inventory, or give -e @FILE",
    "with_dict": "write `loop:`",
    "with_fileglob": "write `loop:`",
    "with_items": "write `loop:`",
    "with_sequence": "write `loop:`",
}


def hinted(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """The diagnostics; those of a key that is Ansible's have the hint for it."""
    found = []
    for one in diagnostics:
        key = one.summary.split("`")[1] if one.code == "LG012" and "`" in one.summary else ""
        found.append(replace(one, hint=WORDS[key]) if key in WORDS else one)
    return found
