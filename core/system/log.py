"""Structured logs: dotted event names, bound ids; JSON for machines, colours for a terminal."""

import logging
import sys

import structlog

from core.system import log_outlet
from core.system.secrets import redact

TIME = structlog.processors.TimeStamper(fmt="iso", utc=True)


class _Redacting(structlog.stdlib.ProcessorFormatter):
    """Leaves gaps for secrets in whatever is logged, tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def configure(*, json: bool | None = None) -> None:
    """Set up structlog and route the standard library's records through it; nobody waits for it.

    Args:
        json: True for one JSON object a line; None chooses it when stderr is no terminal.
    """
    machine = not sys.stderr.isatty() if json is None else json
    log_outlet.install(_dropped_as_json if machine else log_outlet.dropped)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        TIME,
    ]
    renderer = (
        structlog.processors.JSONRenderer()
        if machine
        else structlog.dev.ConsoleRenderer(colors=True)
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _Redacting(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    for chatty in ("httpx", "httpx2", "kombu", "amqp"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _dropped_as_json(lines: int) -> str:
    fields = TIME(None, "", {"lines": lines, "event": "log.dropped", "level": "warning"})
    return str(structlog.processors.JSONRenderer()(None, "", fields))
