"""`baton failpoints`: what failpoints there are."""

from __future__ import annotations

import typer


def failpoints(
    prefix: str = typer.Argument("", help="Only effects whose names begin with this, such as term. or etcd."),
) -> None:
    """List the failpoints of a replica. They do nothing unless BATON_FAILPOINTS asks, in drills."""
    from orchestrator.failpoints.effects import EFFECTS

    for effect in EFFECTS.values():
        if effect.name.startswith(prefix):
            print(f"{effect.name}\n    {effect.about}")
            print(f"    {', '.join(effect.points)}")
