from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class RecordCertificateRequest(_message.Message):
    __slots__ = ("certificate_json",)
    CERTIFICATE_JSON_FIELD_NUMBER: _ClassVar[int]
    certificate_json: str
    def __init__(self, certificate_json: _Optional[str] = ...) -> None: ...

class RecordCertificateResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListCertificatesRequest(_message.Message):
    __slots__ = ("participant",)
    PARTICIPANT_FIELD_NUMBER: _ClassVar[int]
    participant: str
    def __init__(self, participant: _Optional[str] = ...) -> None: ...

class ListCertificatesResponse(_message.Message):
    __slots__ = ("certificates_json",)
    CERTIFICATES_JSON_FIELD_NUMBER: _ClassVar[int]
    certificates_json: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, certificates_json: _Optional[_Iterable[str]] = ...) -> None: ...
