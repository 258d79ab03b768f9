"""One log format for every process of ours: logfmt, one line per event, no secrets."""

import logging
import re
from collections.abc import MutableMapping
from typing import Any, Final, TextIO

import structlog
from structlog.typing import Processor

_SECRET_KEY = re.compile(r"password|secret|token|authorization|sealed|private_key", re.IGNORECASE)
# What slips into a message or a traceback: headers, logins in URLs, and names with a value, quoted
# ones first. Group 1 stays.
_SECRET_TEXTS = (
    re.compile(r"(\b(?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE),
    re.compile(r"(://[^/\s:@]*:)[^/\s@]+(?=@)"),
    re.compile(r"""((?:password|token|secret)["']?\s*[=:]\s*)"[^"]*\"""", re.IGNORECASE),
    re.compile(r"""((?:password|token|secret)["']?\s*[=:]\s*)'[^']*'""", re.IGNORECASE),
    re.compile(
        r"""((?:password|token|secret)["']?\s*[=:]\s*)(?!\[)[^\s,;"'{}\[]+""", re.IGNORECASE
    ),
)
HIDDEN: Final = "[hidden]"
_QUIET = (
    "alembic", "httpx", "httpcore", "uvicorn", "sqlalchemy", "openstack", "keystoneauth", "urllib3",
)  # fmt: skip

Facts = MutableMapping[str, Any]


def hide_secrets(_logger: object, _method: str, facts: Facts) -> Facts:
    """By the name of a fact, and by what text looks like."""
    for key, value in facts.items():
        if _SECRET_KEY.search(key):
            facts[key] = HIDDEN
        elif isinstance(value, str):
            facts[key] = hidden(value)
    return facts


def hidden(text: str) -> str:
    """`text` without what looks like a secret."""
    for shape in _SECRET_TEXTS:
        text = shape.sub(rf"\g<1>{HIDDEN}", text)
    return text


def configure(stream: TextIO) -> None:
    """Our own lines and those of libraries, in one form. Libraries speak from WARNING on.

    stream: standard output of a service, standard error of a verb (its output is its answer).
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        hide_secrets,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.LogfmtRenderer(
                    key_order=["timestamp", "level", "event"], bool_as_flag=False
                ),
            ],
        )
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
