"""One process of a run on several devices: ``python -m cis_seg.training.rank JOB.json``, started by ``cis_seg.training.launch``."""

from __future__ import annotations

import json
import logging
import logging.config
import multiprocessing
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from threading import Thread
from typing import Any

from hydra.errors import HydraException
from hydra.utils import get_method
from omegaconf.errors import OmegaConfBaseException

from cis_seg.config.cli import EXIT_USER_ERROR, log_lightning_once
from cis_seg.config.messages import explain
from cis_seg.config.plain import from_plain
from cis_seg.errors import UserError

#: seconds between two looks whether the launcher is still there
WATCH = 1.0


def main() -> None:
    """Entry point."""
    job: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    Thread(target=_die_with, args=(job["launcher"],), daemon=True).start()
    _configure_logging(job["logging"])
    try:
        get_method(job["task"])(from_plain(job["config"]), job["arguments"])
    except (UserError, HydraException, OmegaConfBaseException) as error:
        _tell(explain(error), EXIT_USER_ERROR)
    except Exception:
        _tell(traceback.format_exc(), 1)


def _die_with(launcher: int) -> None:
    """A launcher that was killed could not stop its processes: they would train on, beside the one that continues the run."""
    while os.getppid() == launcher:
        time.sleep(WATCH)
    os.killpg(os.getpgrp(), signal.SIGKILL)  # with its readers of images


def _configure_logging(setup: dict[str, Any] | None) -> None:
    """As Hydra has set it up in the launcher; what every process would say is said by rank 0 alone."""
    if setup is None:
        logging.basicConfig(format="%(message)s", level=logging.INFO)
    else:
        logging.config.dictConfig(setup)
    if os.environ["RANK"] != "0":
        logging.getLogger().setLevel(logging.WARNING)
    log_lightning_once()


def _tell(message: str, exitcode: int) -> None:
    """Leaves the error for the launcher, which shows the first one alone, and ends at once: the others wait for this process."""
    record = {"message": message, "timestamp": time.time(), "exitcode": exitcode}
    Path(os.environ["TORCHELASTIC_ERROR_FILE"]).write_text(json.dumps(record))
    for worker in multiprocessing.active_children():
        worker.terminate()
    sys.stderr.flush()
    os._exit(exitcode)


if __name__ == "__main__":
    main()
