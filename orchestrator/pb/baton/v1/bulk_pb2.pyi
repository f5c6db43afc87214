import datetime

from orchestrator.pb.baton.v1 import saga_pb2 as _saga_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class BulkOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BULK_OUTCOME_UNSPECIFIED: _ClassVar[BulkOutcome]
    BULK_OUTCOME_ORDERED: _ClassVar[BulkOutcome]
    BULK_OUTCOME_ALREADY_ORDERED: _ClassVar[BulkOutcome]
    BULK_OUTCOME_ENDED: _ClassVar[BulkOutcome]
    BULK_OUTCOME_REFUSED: _ClassVar[BulkOutcome]
    BULK_OUTCOME_UNKNOWN: _ClassVar[BulkOutcome]
BULK_OUTCOME_UNSPECIFIED: BulkOutcome
BULK_OUTCOME_ORDERED: BulkOutcome
BULK_OUTCOME_ALREADY_ORDERED: BulkOutcome
BULK_OUTCOME_ENDED: BulkOutcome
BULK_OUTCOME_REFUSED: BulkOutcome
BULK_OUTCOME_UNKNOWN: BulkOutcome

class BulkFilter(_message.Message):
    __slots__ = ("states", "definition", "labels", "label_keys", "input_path", "created_after", "created_before", "all")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    STATES_FIELD_NUMBER: _ClassVar[int]
    DEFINITION_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    LABEL_KEYS_FIELD_NUMBER: _ClassVar[int]
    INPUT_PATH_FIELD_NUMBER: _ClassVar[int]
    CREATED_AFTER_FIELD_NUMBER: _ClassVar[int]
    CREATED_BEFORE_FIELD_NUMBER: _ClassVar[int]
    ALL_FIELD_NUMBER: _ClassVar[int]
    states: _containers.RepeatedScalarFieldContainer[_saga_pb2.SagaState]
    definition: str
    labels: _containers.ScalarMap[str, str]
    label_keys: _containers.RepeatedScalarFieldContainer[str]
    input_path: str
    created_after: _timestamp_pb2.Timestamp
    created_before: _timestamp_pb2.Timestamp
    all: bool
    def __init__(self, states: _Optional[_Iterable[_Union[_saga_pb2.SagaState, str]]] = ..., definition: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., label_keys: _Optional[_Iterable[str]] = ..., input_path: _Optional[str] = ..., created_after: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., created_before: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., all: _Optional[bool] = ...) -> None: ...

class BulkCancelRequest(_message.Message):
    __slots__ = ("filter", "reason", "dry_run", "max", "after_saga_id", "as_of")
    FILTER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    AFTER_SAGA_ID_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    filter: BulkFilter
    reason: str
    dry_run: bool
    max: int
    after_saga_id: str
    as_of: _timestamp_pb2.Timestamp
    def __init__(self, filter: _Optional[_Union[BulkFilter, _Mapping]] = ..., reason: _Optional[str] = ..., dry_run: _Optional[bool] = ..., max: _Optional[int] = ..., after_saga_id: _Optional[str] = ..., as_of: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class BulkRetryRequest(_message.Message):
    __slots__ = ("filter", "reason", "dry_run", "max", "after_saga_id", "as_of", "by")
    FILTER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    AFTER_SAGA_ID_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    filter: BulkFilter
    reason: str
    dry_run: bool
    max: int
    after_saga_id: str
    as_of: _timestamp_pb2.Timestamp
    by: str
    def __init__(self, filter: _Optional[_Union[BulkFilter, _Mapping]] = ..., reason: _Optional[str] = ..., dry_run: _Optional[bool] = ..., max: _Optional[int] = ..., after_saga_id: _Optional[str] = ..., as_of: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., by: _Optional[str] = ...) -> None: ...

class BulkMoveRequest(_message.Message):
    __slots__ = ("filter", "reason", "dry_run", "max", "after_saga_id", "as_of", "by", "to_version")
    FILTER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    AFTER_SAGA_ID_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    TO_VERSION_FIELD_NUMBER: _ClassVar[int]
    filter: BulkFilter
    reason: str
    dry_run: bool
    max: int
    after_saga_id: str
    as_of: _timestamp_pb2.Timestamp
    by: str
    to_version: int
    def __init__(self, filter: _Optional[_Union[BulkFilter, _Mapping]] = ..., reason: _Optional[str] = ..., dry_run: _Optional[bool] = ..., max: _Optional[int] = ..., after_saga_id: _Optional[str] = ..., as_of: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., by: _Optional[str] = ..., to_version: _Optional[int] = ...) -> None: ...

class BulkItem(_message.Message):
    __slots__ = ("saga_id", "outcome", "message", "state")
    SAGA_ID_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    saga_id: str
    outcome: BulkOutcome
    message: str
    state: _saga_pb2.SagaState
    def __init__(self, saga_id: _Optional[str] = ..., outcome: _Optional[_Union[BulkOutcome, str]] = ..., message: _Optional[str] = ..., state: _Optional[_Union[_saga_pb2.SagaState, str]] = ...) -> None: ...

class BulkReport(_message.Message):
    __slots__ = ("items", "matched", "reached_saga_id", "as_of", "finished", "more")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    MATCHED_FIELD_NUMBER: _ClassVar[int]
    REACHED_SAGA_ID_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[BulkItem]
    matched: int
    reached_saga_id: str
    as_of: _timestamp_pb2.Timestamp
    finished: bool
    more: bool
    def __init__(self, items: _Optional[_Iterable[_Union[BulkItem, _Mapping]]] = ..., matched: _Optional[int] = ..., reached_saga_id: _Optional[str] = ..., as_of: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., finished: _Optional[bool] = ..., more: _Optional[bool] = ...) -> None: ...
