"""Checks every byte of a data set against what its run told of it."""

import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from facegen.serving.errors import OutputError
from facegen.serving.rendering.output.journal import ERRORS, MANIFEST, WORK, Journal, counts_of
from facegen.serving.rendering.output.places import Place
from facegen.serving.rendering.output.records import ShardRecord, shard_name
from facegen.serving.rendering.plan import Plan
from facegen.serving.rendering.shard_check import ENDINGS, CheckProgress, ShardCheck, Told

__all__ = ["Verification", "verify"]

# Hashing leaves Python to others, and from afar most of the time is waiting.
_THREADS = 8
_MOST_PROBLEMS = 300
_REMEDY = (
    "remove what is named here, of a folder with a wrong file the whole folder, "
    "and run the job again with --resume"
)


@dataclass(frozen=True, slots=True)
class Verification:
    """What a check found.

    Attributes:
        shard_count: Shards that are right.
        row_count: Their rows.
        size_bytes: Their bytes.
        missing_count: Shards that are not rendered yet.
        complete: Whether nothing is wrong and nothing is missing.
        problems: What is wrong, each with the file's name; the first few hundred.
        problem_count: How many there are in all.
        remedy: What to do about them; empty if nothing is wrong.
    """

    shard_count: int
    row_count: int
    size_bytes: int
    missing_count: int
    complete: bool
    problems: tuple[str, ...]
    problem_count: int
    remedy: str


def verify(url: str, *, told: Told = lambda done_bytes, all_bytes: None) -> Verification:
    """Check a data set, done or not: that its files are the job's, whole, and no others.

    Args:
        url: Its folder or URL.
        told: Told of progress.

    Raises:
        OutputError: There is none, or what is told of it cannot be read, and so nothing be checked.
        InputError: Nothing reaches the URL.
    """
    journal = Journal(url)
    place = journal.place
    plan, manifest, records = _known(journal)
    done = manifest is not None
    problems = _Problems()
    problems.add(_cover_problems(plan, records, done=done))
    if manifest is not None:
        if manifest.get("plan_sha256") != plan.digest:
            problems.add(iter([f"{MANIFEST}: its plan is not the one that was rendered"]))
        problems.add(_manifest_problems(place, manifest, records=records))
    problems.add(_foreign_problems(place, plan, records=records, done=done))
    progress = CheckProgress(told, sum(record.size_bytes for record in records))

    def check(record: ShardRecord) -> bool:
        return problems.add(ShardCheck(place, plan, record=record, progress=progress).problems())

    with ThreadPoolExecutor(_THREADS, "verify") as pool:
        right = list(pool.map(check, records))
    progress.end()
    counts = counts_of(record for record, good in zip(records, right, strict=True) if good)
    missing_count = max(0, plan.shard_count - len({record.number for record in records}))
    return Verification(
        counts["shards"],
        counts["rows"],
        counts["bytes"],
        missing_count,
        not problems.count and not missing_count,
        tuple(sorted(problems.kept)),
        problems.count,
        _REMEDY if problems.count else "",
    )


def _known(journal: Journal) -> tuple[Plan, Mapping[str, Any] | None, Sequence[ShardRecord]]:
    """Read what is told of a data set."""
    plan, manifest, records = journal.plan(), journal.manifest(), journal.records()
    if plan is None:
        raise OutputError(
            journal.url, "is no data set", "name the folder that `facegen render` wrote to"
        )
    return plan, manifest, records


def _cover_problems(plan: Plan, records: Iterable[ShardRecord], *, done: bool) -> Iterator[str]:
    """Tell which shards are told of wrongly, twice, or in a manifest not at all."""
    left = {order.number: order for order in plan.orders(())}
    for record in records:
        name = shard_name(record.number)
        order = left.pop(record.number, None)
        if order is None:
            yield f"{name}: is told of twice, or is none of the job's {plan.shard_count} shards"
        elif (record.first, record.item_count) != (order.first, order.count):
            yield (
                f"{name}: is told to have {record.item_count} items from {record.first} on, "
                f"must have {order.count} from {order.first} on"
            )
    if done:
        for number in left:
            yield f"{MANIFEST}: does not tell of {shard_name(number)}"
    elif not left:
        yield f"{MANIFEST}: is missing, though all shards are there"


def _manifest_problems(
    place: Place, manifest: Mapping[str, Any], *, records: Sequence[ShardRecord]
) -> Iterator[str]:
    """Compare a manifest's counts, and the file of errors, with what it tells of the shards."""
    counts, told = counts_of(records), manifest.get("counts")
    if told != counts:
        yield f"{MANIFEST}: has the counts {told}, its shards have {counts}"
    faults = [asdict(fault) for record in records for fault in record.faults]
    if not faults:
        return
    lines = (place.read(ERRORS) or b"").splitlines()
    if len(lines) != len(faults):
        yield f"{ERRORS}: has {len(lines)} lines, {MANIFEST} tells of {len(faults)} errors"
        return
    for number, (line, fault) in enumerate(zip(lines, faults, strict=True), 1):
        try:
            same = json.loads(line) == fault
        except ValueError:
            same = False
        if not same:
            yield f"{ERRORS}: has another line {number} than {MANIFEST} tells of"


def _foreign_problems(
    place: Place, plan: Plan, *, records: Sequence[ShardRecord], done: bool
) -> Iterator[str]:
    """Tell which names in the data set's folder are not its own.

    Hidden ones of others are passed over, as readers do: training keeps its cache in one.
    """
    own = {file.name.partition("/")[0] for record in records for file in record.files}
    if done:
        own |= {MANIFEST, ERRORS} if any(it.faults for it in records) else {MANIFEST}
    else:
        # A run may be writing, or have been killed: as it goes on, it replaces what it left.
        ending = ENDINGS[plan.container]
        own |= {WORK, ERRORS, *(shard_name(it) + ending for it in range(plan.shard_count))}
    for name in place.names():
        hidden = name.startswith(".") and name != WORK
        if name not in own and not hidden:
            yield f"{name}: is no part of the data set"


class _Problems:
    """The first problems, and the number of all; several threads may add some."""

    def __init__(self) -> None:
        self.kept: list[str] = []
        self.count = 0
        self._changing = threading.Lock()

    def add(self, problems: Iterator[str]) -> bool:
        """Add problems as they are found; tell whether there were none."""
        none = True
        for problem in problems:
            none = False
            with self._changing:
                self.count += 1
                if len(self.kept) < _MOST_PROBLEMS:
                    self.kept.append(problem)
        return none
