"""The tree of errors that taper raises, with the exit status of a command that ends with one.

    TaperError                      exit 1
    |-- UsageError                  exit 2   a flag, a field or an input of the user is wrong
    |   |-- FractionError                    a fraction is not in (0, 1]
    |   |-- ProfileError                     a profile is unknown, or its coefficients are wrong
    |   |-- BundleError                      a file is no model bundle that can be used
    |   |-- ImageError                       an input is no image or set of images
    |   `-- MessageError                     a message of the fleet does not fit the contract
    |-- RequestError                exit 1   a server refuses a request
    |   |-- InvalidRequestError              INVALID_ARGUMENT: it can never succeed
    |   |-- UnknownModelError                NOT_FOUND: the model is not served there
    |   |-- VersionMismatchError             FAILED_PRECONDITION: another version is served
    |   |-- OverloadedError                  RESOURCE_EXHAUSTED: the same request may succeed later
    |   |-- LateError                        DEADLINE_EXCEEDED: it cannot be answered in time
    |   |-- UnavailableError                 UNAVAILABLE: the server is shutting down
    |   |-- UnauthenticatedError             UNAUTHENTICATED: the token is missing or not known
    |   `-- ServerFaultError                 INTERNAL: the server failed, the request may be right
    |-- LinkError                   exit 3   a server cannot be reached, or the connection was lost
    |   |-- SpooledError                     the cloud is away, and the sample waits in the spool
    |   |-- BrokerError                      the MQTT broker cannot be reached, or refuses
    |   |   `-- TakenOverError               another client connected with the same name
    |   `-- StoreError                       the telemetry store cannot be reached, or fails
    `-- DatasetError                exit 4   no source has a data set

A message is one line that names the flag or field and says what is allowed. Errors of other
libraries are converted to one of these where they are caught.
"""

from __future__ import annotations

from typing import ClassVar


class TaperError(Exception):
    """Base of all errors of this package; ``exit_status`` is that of a command it ends."""

    exit_status: ClassVar[int] = 1


class UsageError(TaperError):
    """A flag, field or input that the user gave is wrong; the message names it."""

    exit_status = 2


class FractionError(UsageError):
    """A fraction is not a number in (0, 1]."""


class ProfileError(UsageError):
    """A profile is unknown, or its coefficients are not non-negative and non-increasing."""


class BundleError(UsageError):
    """A file is not a model bundle that this version can use."""


class ImageError(UsageError):
    """An input cannot be read as an image or a set of images."""


class MessageError(UsageError):
    """A message of the fleet does not fit the contract; names its topic and the field."""

    def __init__(self, topic: str, field: str, reason: str) -> None:
        super().__init__(f"{topic}: {field}: {reason}")
        self.topic = topic
        self.field = field


class RequestError(TaperError):
    """A server refuses a request, with the gRPC status whose name is ``grpc_status``."""

    grpc_status: ClassVar[str] = "INVALID_ARGUMENT"


class InvalidRequestError(RequestError):
    """The request can never succeed: a field has a value that is not allowed."""


class UnknownModelError(RequestError):
    """The request names a model that is not served here."""

    grpc_status = "NOT_FOUND"


class VersionMismatchError(RequestError):
    """The request names a version of the model that is not served here.

    ``number`` is the sample's number in the spool if it waits there until that version is served.
    """

    number: int | None = None
    grpc_status = "FAILED_PRECONDITION"


class OverloadedError(RequestError):
    """The server is overloaded; the same request may succeed later.

    ``retry_after_ms`` is the time after which to retry; 0 leaves it to the client.
    """

    grpc_status = "RESOURCE_EXHAUSTED"

    def __init__(self, message: str, retry_after_ms: int = 0) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class LateError(RequestError):
    """The request cannot be answered before its deadline."""

    grpc_status = "DEADLINE_EXCEEDED"


class UnavailableError(RequestError):
    """The server is shutting down; another server, or this one later, may answer."""

    grpc_status = "UNAVAILABLE"


class UnauthenticatedError(RequestError):
    """The caller has sent no token, or one that the server does not know."""

    grpc_status = "UNAUTHENTICATED"


class ServerFaultError(RequestError):
    """The server failed while it answered; the request itself may be right."""

    grpc_status = "INTERNAL"


class LinkError(TaperError):
    """A server cannot be reached, or the connection was lost before everything was answered."""

    exit_status = 3


class SpooledError(LinkError):
    """The cloud is away and the device has no exit head; the sample waits in the spool.

    ``number`` is the sample's number in the spool; its late answer has the same number.
    """

    number: int | None = None


class BrokerError(LinkError):
    """The MQTT broker cannot be reached, or refuses the credentials."""


class TakenOverError(BrokerError):
    """Another client has connected with the same name; a broker session has only one client."""


class StoreError(LinkError):
    """The telemetry store cannot be reached, or cannot write."""


class DatasetError(TaperError):
    """No source has the data set, or its files fail the checksum."""

    exit_status = 4
