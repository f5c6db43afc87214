from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class ShipRequest(_message.Message):
    __slots__ = ("order_id", "destination")
    ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_FIELD_NUMBER: _ClassVar[int]
    order_id: str
    destination: str
    def __init__(self, order_id: _Optional[str] = ..., destination: _Optional[str] = ...) -> None: ...

class ShipResponse(_message.Message):
    __slots__ = ("tracking_number",)
    TRACKING_NUMBER_FIELD_NUMBER: _ClassVar[int]
    tracking_number: str
    def __init__(self, tracking_number: _Optional[str] = ...) -> None: ...

class CancelShipmentRequest(_message.Message):
    __slots__ = ("order_id",)
    ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    order_id: str
    def __init__(self, order_id: _Optional[str] = ...) -> None: ...

class CancelShipmentResponse(_message.Message):
    __slots__ = ("tracking_number",)
    TRACKING_NUMBER_FIELD_NUMBER: _ClassVar[int]
    tracking_number: str
    def __init__(self, tracking_number: _Optional[str] = ...) -> None: ...

class GetShipmentRequest(_message.Message):
    __slots__ = ("order_id",)
    ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    order_id: str
    def __init__(self, order_id: _Optional[str] = ...) -> None: ...

class GetShipmentResponse(_message.Message):
    __slots__ = ("tracking_number", "destination", "cancelled")
    TRACKING_NUMBER_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    tracking_number: str
    destination: str
    cancelled: bool
    def __init__(self, tracking_number: _Optional[str] = ..., destination: _Optional[str] = ..., cancelled: _Optional[bool] = ...) -> None: ...

class ShippingTotalsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ShippingTotals(_message.Message):
    __slots__ = ("shipped", "cancelled")
    SHIPPED_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    shipped: int
    cancelled: int
    def __init__(self, shipped: _Optional[int] = ..., cancelled: _Optional[int] = ...) -> None: ...
