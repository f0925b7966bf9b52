from collections.abc import Callable, Mapping, Sequence

from cloud.native._core import Dispatcher, Model

Metadata = tuple[tuple[str, str | bytes], ...]
Info = tuple[str, str, Metadata, float | None]
Event = tuple[int, int, bytes, UnaryCall | StreamCall | None, tuple[str, str] | None]
Fetch = Callable[[], tuple[bytes, bytes, bytes] | None]

class Call:
    """A call of a client; after its end nothing does anything."""

    @property
    def id(self) -> int: ...
    @property
    def info(self) -> Info:
        """Method, peer, metadata, seconds to the deadline or None."""

    def finish(self, status: int, message: str, trailer: Sequence[tuple[str, str]]) -> None:
        """End the call with a status."""

    def cancel(self) -> None:
        """End the call as its client would."""

class UnaryCall(Call):
    """A call whose request has been read."""

    def respond(self, data: bytes, /) -> None:
        """End the call with a response."""

class StreamCall(Call):
    """A call with any number of messages."""

    def read(self) -> None:
        """Read a message; an event follows."""

    def write(self, data: bytes, /) -> None:
        """Write a message; an event follows."""

    def respond(self, data: bytes, /) -> None:
        """End the call with its only response."""

    def attach(self, client: str) -> None:
        """Answer the requests of ``client`` that can be answered here, as they come."""

    def begun(self, model: str, version: str) -> None:
        """Python has begun with the next message; what the stream has named from there on."""

    def answer(self, data: bytes, /) -> None:
        """Send the response to a message that Python has answered."""

    def leave(self) -> None:
        """Read no more; an event follows when all is answered."""

class Front:
    """A gRPC server with threads of its own."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        threads: int,
        max_message_bytes: int,
        max_streams: int,
        shared_port: bool,
        all_to_python: bool,
        tell_refusals: bool,
        max_calls: int,
        max_call_bytes: int,
    ) -> None: ...
    @property
    def connections(self) -> int:
        """Connections that are open, or have closed so recently that it was not noticed."""

    @property
    def cpu_s(self) -> float:
        """Seconds of CPU time of the threads that serve, all together."""

    @property
    def calls(self) -> int:
        """Inference calls that are under way."""

    def start(self, address: str, certificates: Fetch | None) -> int:
        """The port, or 0 if the address cannot be had.

        ``certificates`` gives key, certificate and authorities as PEM, or None to keep those in
        use; threads of gRPC call it.
        """

    def stop(self, grace_s: float) -> None:
        """End calls after ``grace_s`` and return when nothing is left."""

    def fileno(self) -> int:
        """Readable while there are events."""

    def take_events(self) -> list[Event]:
        """Kind, call's id, data, call if it is new, what a stream had named before a message."""

    def serve(self, models: list[Model]) -> None:
        """Answer for these models from now on."""

    def set_owners(self, owners: Mapping[bytes, str] | None) -> None:
        """The owners of tokens by SHA-256; None: nobody needs one."""

    def take_cuts(self) -> tuple[int, str, str]:
        """Connections reset since the last time: how many, the last one's peer and fault."""

    def take_used(self) -> list[str]:
        """Connections with calls since the last time."""
