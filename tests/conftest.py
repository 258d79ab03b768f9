"""For all tests. Thresholds of Python's search for garbage as in seed/serve.py, whose import is
itself seconds: by Python's own a tenth of a test's time is that search. And tracebacks as plain as
those of our services' logs: structlog's own, with locals and colours, take a quarter of the time.
"""

import gc

import structlog

gc.set_threshold(50_000, 20, 50)
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(
            colors=False, exception_formatter=structlog.dev.plain_traceback
        ),
    ]
)


def pytest_collection_finish() -> None:
    gc.freeze()  # what is loaded by now stays
