"""For all tests. Thresholds of Python's search for garbage as in seed/serve.py, whose import is
itself seconds: by Python's own a tenth of a test's time is that search."""

import gc

gc.set_threshold(50_000, 20, 50)


def pytest_collection_finish() -> None:
    gc.freeze()  # what is loaded by now stays
