"""What a run says: lines of the logger ``tfrec``, on the terminal and in the run's ``run.log``.

Importing tfrec adds no handler, so a program that uses it as a library hears only warnings, as of
any other library. `show` has all lines printed: the commands do, notebooks may.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

LOGGER = logging.getLogger("tfrec")

_FILE_FORMAT = "%(asctime)s %(levelname)-7s %(message)s"


def tell(line: str) -> None:
    """Says a line for people: what a run does and has done."""
    LOGGER.info("%s", line)


def show() -> None:
    """Prints the lines of the logger ``tfrec`` from now on, plain and each once.

    Example:
        >>> from tfrec import log
        >>> log.show()
        >>> log.tell("[1/11] prepare: unchanged")
        [1/11] prepare: unchanged
        >>> log.hide()
    """
    hide()
    LOGGER.addHandler(_Terminal())
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False  # a handler of the program would print each line again


def hide() -> None:
    """Takes back what `show` did."""
    for handler in [h for h in LOGGER.handlers if isinstance(h, _Terminal)]:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(logging.NOTSET)
        LOGGER.propagate = True


@contextmanager
def record(path: Path) -> Iterator[None]:
    """Appends the lines of the logger ``tfrec``, and what ends the run early, to a file.

    Args:
        path: The file; each line has its time and level.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter(_FILE_FORMAT))
    level = LOGGER.level
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    try:
        yield
    except BaseException as error:
        # Whoever catches it says it to people, so it goes to the file alone.
        facts = (LOGGER.name, logging.ERROR, __file__, 0, "stopped by %s", (repr(error),), None)
        handler.handle(LOGGER.makeRecord(*facts))
        raise
    finally:
        LOGGER.setLevel(level)
        LOGGER.removeHandler(handler)
        handler.close()


class _Terminal(logging.Handler):
    """Prints to the standard output of the moment, above a bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            tqdm.write(self.format(record))
            sys.stdout.flush()  # a file or a pipe shows a line when it is said
        except BrokenPipeError:
            raise
        except Exception:
            self.handleError(record)
