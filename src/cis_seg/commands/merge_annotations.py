"""``python scripts/merge_annotations.py JOB/job.json EXPORT.json... --output MERGED.json``: merge outlines into one checked test set."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from cis_seg.annotation.job import ACCEPTABLE, as_text, check_accepted, refused
from cis_seg.errors import ConfigError, DataError, UserError

EXIT_REFUSED = 1  # the problems of the outlines are listed; nothing is written
ON_SCREEN = 20  # problems of each kind


def main(arguments: Sequence[str] | None = None, prog: str = "python scripts/merge_annotations.py") -> int:
    """Return the exit code: 0, 1 if outlines were refused, 2 after a message about a file or an option."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Merges the outlines of a job (cis-seg select) into a COCO json in the format of CIS.json, with a data "
        "card beside it, if every outline follows COCO's rules for instance masks.",
    )
    parser.add_argument("job", type=Path, metavar="JOB.json", help="the job as cis-seg select wrote it")
    parser.add_argument("exports", type=Path, nargs="+", metavar="EXPORT.json", help="COCO json exported by an annotation tool")
    parser.add_argument("--output", type=Path, required=True, metavar="MERGED.json", help="the card is called MERGED.md")
    parser.add_argument("--dropped", type=Path, metavar="FILE", help="people to leave out, one per line: id in the job, and the reason")
    accept = f"kinds of problem to accept after a look: {', '.join(ACCEPTABLE)}"
    parser.add_argument("--accept", nargs="+", default=[], metavar="KIND", help=accept)
    args = parser.parse_args(arguments)
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    try:
        return _merge(args)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _merge(args: argparse.Namespace) -> int:
    from cis_seg.annotation.exports import read_export
    from cis_seg.annotation.job import read_dropped, read_job
    from cis_seg.annotation.merging import data_card, merge

    check_accepted(args.accept)
    if args.output.resolve() in {path.resolve() for path in (args.job, *args.exports)} or args.output.suffix != ".json":
        expected = "a new json, neither the job nor an export"
        raise ConfigError("the output cannot be written there", where="--output", expected=expected, found=args.output)
    job = read_job(args.job)
    exports = [read_export(path, job) for path in args.exports]
    merged = merge(job, exports, read_dropped(args.dropped, job))
    listed = args.output.with_suffix(".problems.txt")
    listed.unlink(missing_ok=True)
    if wrong := refused(merged.problems, args.accept):
        print(as_text(wrong, ON_SCREEN), file=sys.stderr)
        listed.parent.mkdir(parents=True, exist_ok=True)
        listed.write_text(as_text(wrong) + "\n", encoding="utf-8")
        advice = f"fix them in the annotation tool, list people to leave out with --dropped, or --accept {'/'.join(ACCEPTABLE)}"
        print(f"{len(wrong)} problems, all in {listed}; nothing was merged: {advice}", file=sys.stderr)
        return EXIT_REFUSED
    if not merged.people:
        raise DataError(
            "no person is outlined", where=args.job, expected="at least one mask", found="none", remedy="pass the exported files"
        )
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(merged.content) + "\n", encoding="utf-8")
    card = args.output.with_suffix(".md")
    card.write_text(data_card(args.output, merged, job, exports), encoding="utf-8")
    print(
        f"{args.output}: {len(merged.content['images'])} images, {merged.people} people, {len(merged.dropped)} dropped; data card: {card}"
    )
    return 0
