"""`engine inventory`: which hosts there are, in which groups, with which variables."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from engine.diagnostics import Exit

if TYPE_CHECKING:
    from engine.inventory import Host, Inventory
    from engine.look import Style


@click.command(epilog="Reference: docs/reference/commands.md")
@click.argument("pattern", default="all")
@click.option("-i", "--inventory", "inventories", multiple=True, help="A folder, file or executable; several are merged.")
@click.option("--host", default="", help="This host's variables, and where each value stands.")
@click.option("--graph", is_flag=True, help="The groups as a tree.")
@click.option("--list", "--json", "listed", is_flag=True, help="As Ansible's --list: what an executable inventory answers.")
def command(pattern: str, inventories: tuple[str, ...], host: str, graph: bool, listed: bool) -> int:
    """List the hosts of an inventory, all of them or those that PATTERN names.

    \b
    engine inventory -i inventories/production
    engine inventory -i inventories/production 'fraud:&canary' --list
    """
    from engine import inventory, look
    from engine.cli import showing
    from engine.diagnostics import render

    if not inventories:
        raise click.UsageError("No inventory is given. Name one: -i inventories/production")
    if (graph and listed) or (host and (graph or pattern != "all")):
        raise click.UsageError("--host, --graph and --list do not go together.")
    stock = inventory.load(list(inventories))
    wanted = host or pattern
    chosen = showing.selected(stock, wanted, "--host" if host else "PATTERN")
    if listed:
        click.echo(json.dumps(_one(chosen[0]) if host else _listed(stock, chosen), indent=1, sort_keys=True))
        return Exit.DONE
    style = look.style(sys.stdout)
    again = " ".join(f"-i {one}" for one in inventories)
    if host:
        lines, after = _variables(chosen[0], style), f"engine explain VARIABLE -h {chosen[0].name} {again}"
    elif graph:
        lines, after = [look.cut(line, style.width) for line in _tree(stock, {one.name for one in chosen})], ""
    else:
        lines, after = _table(stock, chosen, style), ""
    if stock.warnings:
        click.echo(render(stock.warnings), err=True)
    text = "\n".join([*lines, style.paint(f"next: {after or f'engine inventory {again} --host {chosen[0].name}'}", "bold")])
    showing.result(text, style)
    return Exit.DONE


def _table(stock: Inventory, chosen: Sequence[Host], style: Style) -> list[str]:
    from engine import words
    from engine.look import cut, pad

    widest = min(max(len(host.name) for host in chosen), max(style.width // 2, 12))
    lines = []
    for host in chosen:
        count = words.plural(len(host.vars), "variable")
        lines.append(cut(f"{pad(cut(host.name, widest), widest)}  {count:>12}  {', '.join(host.groups)}", style.width))
    groups = words.plural(len([name for name in stock.groups if name != "all"]), "group")
    files = words.plural(len(stock.files), "file")
    return [*lines, f"{words.plural(len(chosen), 'host')} of {len(stock.hosts)}, {groups}, from {files}"]


def _variables(host: Host, style: Style) -> list[str]:
    """The host's variables with the place of each value; what looks like a secret is not shown."""
    from engine.cli.showing import ending, value
    from engine.look import cells, cut, field, pad

    lines = [style.paint(cut(host.name, style.width), "bold"), *field("groups", ", ".join(host.groups) or "none", style)]
    widest = min(max([4, *map(len, host.vars)]), 24)
    for name in sorted(host.vars):
        said, where = value(name, host.vars[name]), str(host.origin[name])
        line = f" {pad(cut(name, widest), widest)}  {said}"
        if cells(line) + cells(where) + 3 <= style.width:
            lines.append(f"{pad(line, style.width - cells(where) - 1)} {style.paint(where, 'quiet')}")
        else:
            lines += [cut(line, style.width), style.paint(f"   {ending(where, style.width - 3)}", "quiet")]
    return lines


def _tree(stock: Inventory, hosts: set[str], group: str = "all", depth: int = 0) -> Iterator[str]:
    """The group and what is in it, as `ansible-inventory --graph` shows it; groups without a chosen host are left out."""
    if not hosts.intersection(stock.groups[group]):
        return
    inside = "  |" * depth + "--" if depth else ""
    yield f"{inside}@{group}:"
    children, members = stock.tree[group]
    for child in children:
        yield from _tree(stock, hosts, child, depth + 1)
    yield from ("  |" * (depth + 1) + f"--{name}" for name in members if name in hosts)


def _listed(stock: Inventory, chosen: Sequence[Host]) -> dict[str, Any]:
    """What `ansible-inventory --list` prints, and what this engine reads from an executable inventory."""
    names = {host.name for host in chosen}
    found: dict[str, Any] = {"_meta": {"hostvars": {host.name: dict(host.vars) for host in chosen}}}
    for group, (children, members) in stock.tree.items():
        if group != "all" and not names.intersection(stock.groups[group]):
            continue
        inside = {
            "children": [name for name in children if names.intersection(stock.groups[name])],
            "hosts": [name for name in members if name in names],
        }
        found[group] = {key: value for key, value in inside.items() if value}
    return found


def _one(host: Host) -> dict[str, Any]:
    """What an executable inventory answers to `--host NAME`."""
    return dict(host.vars)
