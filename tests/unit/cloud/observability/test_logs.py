"""Which of gRPC's own log lines are written."""

from __future__ import annotations

import asyncio
import logging

import grpc

from cloud.observability.logs import GRPC_SERVER, is_worth_logging


def record(error: BaseException | None) -> logging.LogRecord:
    """What gRPC logs about ``error``."""
    raised = None if error is None else (type(error), error, None)
    return logging.LogRecord(GRPC_SERVER, logging.ERROR, "", 0, "of a method", (), raised)


def test_a_client_that_went_away_is_no_fault() -> None:
    assert not is_worth_logging(record(asyncio.CancelledError()))
    assert not is_worth_logging(record(grpc.aio.InternalError("execute_batch")))


def test_a_fault_is_written() -> None:
    assert is_worth_logging(record(ValueError("ours")))
    assert is_worth_logging(record(None))
