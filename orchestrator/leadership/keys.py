"""Where a cluster's keys are in etcd, and what stands in them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

import orjson
import structlog

from orchestrator.leadership.port import Entry, Member

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one shard's campaign in one cluster."""

    cluster: str
    shard: int

    @property
    def all(self) -> str:
        """The prefix of everything that a campaign watches."""
        return f"/baton/{self.cluster}/"

    @property
    def leader(self) -> str:
        """The key whose holder leads the shard."""
        return f"{self.all}leader/{self.shard}"

    @property
    def replicas(self) -> str:
        """The prefix of the keys by which replicas say that they run."""
        return f"{self.all}replicas/"

    def replica(self, replica_id: str) -> str:
        """The key by which one replica says that it runs."""
        return f"{self.replicas}{replica_id}"


_TEXTS = tuple(field.name for field in fields(Member) if field.name != "pid")


def encode(member: Member) -> bytes:
    """A member as the value of a key."""
    return orjson.dumps(asdict(member))


def decode(entry: Entry) -> Member:
    """The member in a key. What cannot be read, or was left out by another version of Baton, is empty.

    A key of nonsense still counts as held: its holder cannot be observed, so it is waited for.
    """
    try:
        found = orjson.loads(entry.value)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        log.error("key_unreadable", key=entry.key, reaction="delete it by hand if no replica renews it")
        found = {}
    pid = found.get("pid")
    return Member(pid=pid if isinstance(pid, int) else 0, **{name: str(found.get(name, "")) for name in _TEXTS})
