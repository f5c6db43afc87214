"""What happens in the choreography, and how it travels: a CloudEvent 1.0 in JSON. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

_TYPE = "shop.v1."


@dataclass(frozen=True, slots=True)
class Happening:
    """Something has happened to an order: `type` is such as `payment.charged`, `order` all that services need to know.

    Each type happens to an order once at most, so order and type identify it, whoever repeats it.
    """

    type: str
    order_id: str
    order: dict[str, Any]
    reason: str = ""

    @property
    def id(self) -> str:
        """The same whenever it is sent."""
        return f"{self.order_id}/{self.type}"

    def then(self, type_: str, reason: str = "") -> Happening:
        """What happens to the same order next; a reason stays until another one comes."""
        return Happening(type_, self.order_id, self.order, reason or self.reason)

    def encode(self, source: str) -> bytes:
        """As a CloudEvent."""
        event = {
            "specversion": "1.0",
            "id": self.id,
            "source": f"/shop/{source}",
            "type": _TYPE + self.type,
            "subject": self.order_id,
            "datacontenttype": "application/json",
            "data": {"order": self.order, "reason": self.reason},
        }
        return json.dumps(event, separators=(",", ":")).encode()


def decode(body: bytes) -> Happening:
    """What a CloudEvent says. Raises ValueError when it says something else."""
    try:
        event = json.loads(body)
        data = event["data"]
        return Happening(event["type"].removeprefix(_TYPE), event["subject"], dict(data["order"]), data["reason"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an event of the shop: {error!r}") from None
