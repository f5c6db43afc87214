"""Which sagas a request is about: the filters of ListSagas and of orders for many, checked; and their pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from google.protobuf.timestamp_pb2 import Timestamp

from orchestrator.api import checks, conversion
from orchestrator.api.port import SagaReader
from orchestrator.errors import Rejected
from orchestrator.saga.model import SagaId
from orchestrator.sagalog.records import Found, SagaFilter

PATH_CHARS_MAX = 1000


class Filters(Protocol):
    """A message with the fields that select sagas."""

    @property
    def states(self) -> Sequence[int]: ...
    @property
    def definition(self) -> str: ...
    @property
    def labels(self) -> Mapping[str, str]: ...
    @property
    def label_keys(self) -> Sequence[str]: ...
    @property
    def input_path(self) -> str: ...
    @property
    def created_after(self) -> Timestamp: ...
    @property
    def created_before(self) -> Timestamp: ...
    def HasField(self, field_name: str, /) -> bool: ...


def saga_filter(asked: Filters) -> SagaFilter:
    """The filter that a message asks for. Raises Rejected, naming the fields."""
    labels, keys = dict(asked.labels), tuple(asked.label_keys)
    # A name without a value is checked as a label is.
    if violations := tuple(checks.start_violations("", {**dict.fromkeys(keys, ""), **labels})):
        raise Rejected("the request is not valid", violations)
    if len(asked.input_path) > PATH_CHARS_MAX or "\x00" in asked.input_path:
        raise checks.rejected("input_path", f"must have at most {PATH_CHARS_MAX} characters, and none of them NUL")
    return SagaFilter(
        states(asked.states),
        checks.name("definition", asked.definition) if asked.definition else "",
        labels,
        moment("created_after", asked.created_after) if asked.HasField("created_after") else None,
        moment("created_before", asked.created_before) if asked.HasField("created_before") else None,
        keys,
        asked.input_path.strip(),
    )


def moment(field: str, at: Timestamp) -> datetime:
    """The time in a field. Raises Rejected."""
    try:
        return conversion.moment(at)
    except (ValueError, OverflowError) as error:
        raise checks.rejected(field, str(error)) from None


def states(numbers: Sequence[int]) -> tuple[str, ...]:
    """The states of a request by their names in the log. Raises Rejected."""
    names = []
    for number in numbers:
        name = conversion.state_name(number)
        if name is None:
            raise checks.rejected("states", f"{number} is not the state of a saga")
        names.append(name)
    return tuple(names)


async def page_of(reader: SagaReader, wanted: SagaFilter, before: SagaId | None, size: int) -> Found:
    """A page of the sagas that match, newest first, and behind which saga the next one begins, if there is one."""
    if wanted.searched:
        return await reader.search(wanted, before, size)
    sagas = await reader.find(wanted, before, size + 1)
    return Found(sagas[:size], sagas[size - 1].id if len(sagas) > size else None)
