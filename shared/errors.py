"""The one tree of errors that taper raises.

    TaperError                      exit 1
    |-- UsageError                  exit 2   a flag, a field or an input of the user's is wrong
    |   |-- FractionError                    a fraction outside (0, 1]
    |   |-- ProfileError                     coefficients that are no profile, or an unknown profile
    |   |-- BundleError                      a file that is not a usable model bundle
    |   |-- ImageError                       an input that is not an image or a set of images
    |   `-- MessageError                     a message of the fleet that is not the contract
    |-- RequestError                exit 1   a request that a server refuses
    |   |-- InvalidRequestError              INVALID_ARGUMENT: it can never succeed
    |   |-- UnknownModelError                NOT_FOUND: no such model here
    |   |-- VersionMismatchError             FAILED_PRECONDITION: another version is served
    |   |-- OverloadedError                  RESOURCE_EXHAUSTED: not now, perhaps later
    |   |-- LateError                        DEADLINE_EXCEEDED: it cannot be done in time
    |   |-- UnavailableError                 UNAVAILABLE: this server is going away
    |   |-- UnauthenticatedError             UNAUTHENTICATED: no token, or one that is not known
    |   `-- ServerFaultError                 INTERNAL: the server failed, the request may be right
    |-- LinkError                   exit 3   the server cannot be reached or went away
    |   |-- SpooledError                     ... and the sample waits in the spool for its return
    |   |-- BrokerError                      the MQTT broker cannot be reached, or refuses
    |   |   `-- TakenOverError               ... since another client came with the same name
    |   `-- StoreError                       the telemetry store cannot be reached, or fails
    `-- DatasetError                exit 4   a data set cannot be had from any source

Every message is one line that names the flag or field and says what is allowed.
"""

from __future__ import annotations

from typing import ClassVar


class TaperError(Exception):
    """Base of all errors of this package; ``exit_status`` is what a command ends with."""

    exit_status: ClassVar[int] = 1


class UsageError(TaperError):
    """Something that the user gave is wrong; the message names it."""

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
    """A message of the fleet is refused; names the topic that it came on and the field."""

    def __init__(self, topic: str, field: str, reason: str) -> None:
        super().__init__(f"{topic}: {field}: {reason}")
        self.topic = topic
        self.field = field


class RequestError(TaperError):
    """A server refuses a request; ``grpc_status`` is the name of the status it answers with."""

    grpc_status: ClassVar[str] = "INVALID_ARGUMENT"


class InvalidRequestError(RequestError):
    """The request can never succeed: a field has a value that is not allowed."""


class UnknownModelError(RequestError):
    """The request names a model that is not served here."""

    grpc_status = "NOT_FOUND"


class VersionMismatchError(RequestError):
    """The request names a version of the model that is not served here."""

    grpc_status = "FAILED_PRECONDITION"


class OverloadedError(RequestError):
    """The server has more to do than it can; the same request may succeed later.

    ``retry_after_ms`` says when; 0 leaves it to the client.
    """

    grpc_status = "RESOURCE_EXHAUSTED"

    def __init__(self, message: str, retry_after_ms: int = 0) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class LateError(RequestError):
    """The request's deadline is over before it could be answered."""

    grpc_status = "DEADLINE_EXCEEDED"


class UnavailableError(RequestError):
    """The server is going away; another one, or this one later, may answer."""

    grpc_status = "UNAVAILABLE"


class UnauthenticatedError(RequestError):
    """The caller has not shown a token that this server knows."""

    grpc_status = "UNAUTHENTICATED"


class ServerFaultError(RequestError):
    """The server failed while it answered; the request may be right."""

    grpc_status = "INTERNAL"


class LinkError(TaperError):
    """The server cannot be reached, or went away before it had answered everything."""

    exit_status = 3


class SpooledError(LinkError):
    """The server is away and nothing on the device can answer; the sample is kept for later.

    ``number`` is that of the sample in the spool; its late answer carries it too.
    """

    number: int | None = None


class BrokerError(LinkError):
    """The MQTT broker cannot be reached, or refuses the credentials."""


class TakenOverError(BrokerError):
    """Another client has connected with this one's name: one broker session has one client."""


class StoreError(LinkError):
    """The telemetry store cannot be reached, or cannot write."""


class DatasetError(TaperError):
    """No source has the data set, or what it gave fails its checksum."""

    exit_status = 4
