"""The result of one check: how much was looked at, and what speaks against the invariant. Pure."""

from __future__ import annotations

from dataclasses import dataclass

_SHOWN_MAX = 5


@dataclass(frozen=True, slots=True)
class Offence:
    """One thing that must not be. `saga_id` is empty where no single saga is to blame."""

    saga_id: str
    what: str

    def __str__(self) -> str:
        return f"saga {self.saga_id}: {self.what}" if self.saga_id else self.what


@dataclass(frozen=True, slots=True)
class Finding:
    """One invariant: what it says, how many things were checked, a remark, and the offences."""

    invariant: str
    says: str
    checked: str
    offences: tuple[Offence, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.offences

    @property
    def sagas(self) -> tuple[str, ...]:
        """The sagas to blame, each once."""
        return tuple(dict.fromkeys(offence.saga_id for offence in self.offences if offence.saga_id))

    def lines(self) -> list[str]:
        """The finding in words; of many offences the first few."""
        shown = [f"    {offence}" for offence in self.offences[:_SHOWN_MAX]]
        if (more := len(self.offences) - _SHOWN_MAX) > 0:
            shown.append(f"    and {more} more")
        return [f"{self.invariant} {'holds' if self.holds else 'VIOLATED'}: {self.says} ({self.checked})", *shown]
