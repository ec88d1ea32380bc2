"""Structured logs on stderr, as JSON lines or for a console; other libraries' logs go the same way."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from ovnkit.api.config import LoggingOptions

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def setup(options: LoggingOptions, **context: str) -> None:
    """Configure logging of the whole process; `context` (node, roles) is part of each line."""
    level = _LEVELS[options.level]
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    render: list[Any]
    if options.format == "json":
        render = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    else:
        render = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]

    def add_context(_logger: Any, _method: str, event: Any) -> Any:
        return {**event, **{key: value for key, value in context.items() if value}}

    structlog.configure(
        processors=[*shared, add_context, *render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, add_context],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING))


def setup_quiet() -> None:
    """For commands that print a result: warnings and worse on stderr, readable."""
    setup(LoggingOptions(level="error", format="console"))
