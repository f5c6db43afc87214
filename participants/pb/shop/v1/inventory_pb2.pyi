from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Line(_message.Message):
    __slots__ = ("stock_code", "quantity")
    STOCK_CODE_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    stock_code: str
    quantity: int
    def __init__(self, stock_code: _Optional[str] = ..., quantity: _Optional[int] = ...) -> None: ...

class ReserveRequest(_message.Message):
    __slots__ = ("order_id", "lines")
    ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    order_id: str
    lines: _containers.RepeatedCompositeFieldContainer[Line]
    def __init__(self, order_id: _Optional[str] = ..., lines: _Optional[_Iterable[_Union[Line, _Mapping]]] = ...) -> None: ...

class ReserveResponse(_message.Message):
    __slots__ = ("reservation_id", "quantity")
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    reservation_id: int
    quantity: int
    def __init__(self, reservation_id: _Optional[int] = ..., quantity: _Optional[int] = ...) -> None: ...

class GetReservationRequest(_message.Message):
    __slots__ = ("order_id",)
    ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    order_id: str
    def __init__(self, order_id: _Optional[str] = ...) -> None: ...

class ReleaseRequest(_message.Message):
    __slots__ = ("order_id",)
    ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    order_id: str
    def __init__(self, order_id: _Optional[str] = ...) -> None: ...

class ReleaseResponse(_message.Message):
    __slots__ = ("quantity",)
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    quantity: int
    def __init__(self, quantity: _Optional[int] = ...) -> None: ...

class RestockRequest(_message.Message):
    __slots__ = ("return_id", "lines")
    RETURN_ID_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    return_id: str
    lines: _containers.RepeatedCompositeFieldContainer[Line]
    def __init__(self, return_id: _Optional[str] = ..., lines: _Optional[_Iterable[_Union[Line, _Mapping]]] = ...) -> None: ...

class RestockResponse(_message.Message):
    __slots__ = ("restock_id", "quantity")
    RESTOCK_ID_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    restock_id: int
    quantity: int
    def __init__(self, restock_id: _Optional[int] = ..., quantity: _Optional[int] = ...) -> None: ...

class UndoRestockRequest(_message.Message):
    __slots__ = ("return_id",)
    RETURN_ID_FIELD_NUMBER: _ClassVar[int]
    return_id: str
    def __init__(self, return_id: _Optional[str] = ...) -> None: ...

class UndoRestockResponse(_message.Message):
    __slots__ = ("quantity",)
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    quantity: int
    def __init__(self, quantity: _Optional[int] = ...) -> None: ...

class SetStockRequest(_message.Message):
    __slots__ = ("stock_code", "quantity")
    STOCK_CODE_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    stock_code: str
    quantity: int
    def __init__(self, stock_code: _Optional[str] = ..., quantity: _Optional[int] = ...) -> None: ...

class SetStockResponse(_message.Message):
    __slots__ = ("quantity_before",)
    QUANTITY_BEFORE_FIELD_NUMBER: _ClassVar[int]
    quantity_before: int
    def __init__(self, quantity_before: _Optional[int] = ...) -> None: ...

class GetStockRequest(_message.Message):
    __slots__ = ("stock_code",)
    STOCK_CODE_FIELD_NUMBER: _ClassVar[int]
    stock_code: str
    def __init__(self, stock_code: _Optional[str] = ...) -> None: ...

class GetStockResponse(_message.Message):
    __slots__ = ("stock_code", "available", "reserved")
    STOCK_CODE_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    RESERVED_FIELD_NUMBER: _ClassVar[int]
    stock_code: str
    available: int
    reserved: int
    def __init__(self, stock_code: _Optional[str] = ..., available: _Optional[int] = ..., reserved: _Optional[int] = ...) -> None: ...

class InventoryTotalsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class InventoryTotals(_message.Message):
    __slots__ = ("initial", "reserved", "restocked", "available")
    INITIAL_FIELD_NUMBER: _ClassVar[int]
    RESERVED_FIELD_NUMBER: _ClassVar[int]
    RESTOCKED_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    initial: int
    reserved: int
    restocked: int
    available: int
    def __init__(self, initial: _Optional[int] = ..., reserved: _Optional[int] = ..., restocked: _Optional[int] = ..., available: _Optional[int] = ...) -> None: ...
