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

#: seconds between two checks that the launcher is still running
WATCH = 1.0


def main() -> None:
    """Run the task of the job file in this process."""
    job: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    Thread(target=_exit_with, args=(job["launcher"],), daemon=True).start()
    _configure_logging(job["logging"])
    try:
        get_method(job["task"])(from_plain(job["config"]), job["arguments"])
    except (UserError, HydraException, OmegaConfBaseException) as error:
        _report(explain(error), EXIT_USER_ERROR)
    except Exception:
        _report(traceback.format_exc(), 1)


def _exit_with(launcher: int) -> None:
    """Kill this process group once the launcher is gone: a killed launcher cannot stop its processes, and they would go on training."""
    while os.getppid() == launcher:
        time.sleep(WATCH)
    os.killpg(os.getpgrp(), signal.SIGKILL)  # including data loading workers


def _configure_logging(setup: dict[str, Any] | None) -> None:
    """Use Hydra's logging configuration of the launcher; only rank 0 logs more than warnings."""
    if setup is None:
        logging.basicConfig(format="%(message)s", level=logging.INFO)
    else:
        logging.config.dictConfig(setup)
    if os.environ["RANK"] != "0":
        logging.getLogger().setLevel(logging.WARNING)
    log_lightning_once()


def _report(message: str, exitcode: int) -> None:
    """Write the error to the file that the launcher reads, and exit at once, because the other processes wait for this one."""
    record = {"message": message, "timestamp": time.time(), "exitcode": exitcode}
    Path(os.environ["TORCHELASTIC_ERROR_FILE"]).write_text(json.dumps(record), encoding="utf-8")
    for worker in multiprocessing.active_children():
        worker.terminate()
    sys.stderr.flush()
    os._exit(exitcode)


if __name__ == "__main__":
    main()
