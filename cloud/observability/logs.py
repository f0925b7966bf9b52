"""Structured logs on standard error, as text for people or one JSON object a line."""

from __future__ import annotations

import asyncio
import logging
import sys

import grpc
import structlog

from cloud.settings import LogFormat, LogLevel

GRPC_SERVER = "grpc._cython.cygrpc"  # logger name of grpc.aio's server


def set_up(log_format: LogFormat, level: LogLevel) -> None:
    """Send the log lines of this package and of libraries to standard error."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    if log_format is LogFormat.JSON:
        last: structlog.typing.Processor = structlog.processors.JSONRenderer()
    else:
        last = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.value.upper(), force=True)
    logging.getLogger(GRPC_SERVER).addFilter(is_worth_logging)


def is_worth_logging(record: logging.LogRecord) -> bool:
    """Return False for grpc.aio's record of a client that disconnected in the middle of a call.

    grpc.aio logs a traceback for each, so a client could fill the disk.
    """
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, asyncio.CancelledError | grpc.aio.InternalError)
