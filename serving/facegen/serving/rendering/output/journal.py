"""What is told of a data set: its plan while it is made, a record of each shard, its manifest.

While a job runs, the folder `.render` in the data set holds its plan, and the journal: a file for
each shard that is in its place. So several processes and machines write at the same time, and a
kill at any moment leaves a shard either journalled, and then whole, or to be rendered again. At the
end all of it becomes manifest.json, and the folder goes.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from facegen.serving.errors import ChangedJobError, OutputError
from facegen.serving.rendering.output.places import Place, open_output
from facegen.serving.rendering.output.records import ShardRecord, shard_name
from facegen.serving.rendering.plan import Plan

__all__ = ["ERRORS", "MANIFEST", "WORK", "Journal"]

WORK = ".render"
MANIFEST, ERRORS = "manifest.json", "errors.jsonl"
_PLAN, _JOURNAL, _LOCK = f"{WORK}/plan.json", f"{WORK}/journal", f"{WORK}/lock"
_LAYOUT = 1


class Journal:
    """The plan, records and manifest of one data set.

    Args:
        url: The data set's folder or URL.

    Attributes:
        place: Where the data set is.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.place: Place = open_output(url, work=WORK)

    def locked(self) -> Any:
        """Keep other runs from writing to it, where that can be done."""
        return self.place.locked(_LOCK)

    def begin(self, plan: Plan, *, resume: bool) -> dict[int, ShardRecord]:
        """Begin the data set, or go on with it; see `look`."""
        done = self.look(plan, resume=resume)
        if self.plan() is None:
            self.place.write(_PLAN, _json(plan.as_json()))
        self.place.remove(f"{WORK}/staging")
        return done

    def look(self, plan: Plan, *, resume: bool) -> dict[int, ShardRecord]:
        """Tell what there is already of a data set; nothing is written.

        Args:
            plan: What it is made of.
            resume: Whether to go on, if it was begun.

        Returns:
            The shards that are done, by their numbers.

        Raises:
            OutputError: It was begun or is done and is not to go on; or something else is there.
            ChangedJobError: It was begun by another plan.
        """
        known = self.plan()
        if known is None:
            self._check_empty()
            return {}
        if differences := plan.differences(known):
            raise ChangedJobError(self.url, differences)
        records = self.records()
        if not resume:
            raise OutputError(
                self.url,
                f"holds this job already, {len(records)} of {plan.shard_count} shards are done",
                "go on with --resume, or choose another folder",
            )
        return {
            record.number: record
            for record in records
            if all(self.place.size(file.name) == file.size_bytes for file in record.files)
        }

    def _check_empty(self) -> None:
        others = [name for name in self.place.names() if name != WORK]
        if others:
            raise OutputError(
                self.url,
                f"has other files, such as {others[0]}",
                "choose an empty folder, or one that is not there",
            )

    def plan(self) -> Plan | None:
        """Read the plan of the data set; None: there is none.

        Raises:
            OutputError: It is broken, or of another release of facegen.
        """
        manifest = self.manifest()
        if manifest is not None:
            return _read_plan(manifest.get("plan"), self.url)
        data = self.place.read(_PLAN)
        return None if data is None else _read_plan(_read_json(data, self.url), self.url)

    def manifest(self) -> dict[str, Any] | None:
        """Read the manifest; None: the data set is not done, or there is none.

        Raises:
            OutputError: It is broken, or of another release of facegen.
        """
        data = self.place.read(MANIFEST)
        if data is None:
            return None
        manifest = _read_json(data, self.url)
        if not isinstance(manifest, dict) or manifest.get("layout") != _LAYOUT:
            raise OutputError(
                self.url,
                "its manifest.json is not of this release of facegen",
                "choose a data set that facegen has rendered",
            )
        return manifest

    def add(self, record: ShardRecord) -> None:
        """Tell that a shard is in its place."""
        data = json.dumps(record.as_json(), ensure_ascii=False).encode()
        self.place.write(f"{_JOURNAL}/{shard_name(record.number)}.json", data)

    def records(self) -> list[ShardRecord]:
        """Read the records of all shards that are done, by their numbers.

        Raises:
            OutputError: One is broken.
        """
        manifest = self.manifest()
        if manifest is not None:
            try:
                return [ShardRecord.from_json(fields) for fields in manifest["shards"]]
            except (KeyError, TypeError) as error:
                raise OutputError(
                    self.url, f"its {MANIFEST} is broken: {error!r}", "render it anew elsewhere"
                ) from error
        records = []
        for name, data in self.place.read_all(_JOURNAL).items():
            try:
                records.append(ShardRecord.from_json(_read_json(data, self.url)))
            except (KeyError, TypeError) as error:
                raise OutputError(
                    self.url, f"its {_JOURNAL}/{name} is broken", "remove it, and --resume"
                ) from error
        return sorted(records, key=lambda record: record.number)

    def finish(
        self,
        plan: Plan,
        records: Mapping[int, ShardRecord],
        *,
        timings: Mapping[str, Any],
        environment: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Write the errors and the manifest, and remove what was there for the work.

        Returns:
            The manifest.
        """
        ordered = [records[number] for number in sorted(records)]
        if any(record.faults for record in ordered):
            self.place.write(ERRORS, _error_lines(ordered))
        manifest = {
            "layout": _LAYOUT,
            "plan": plan.as_json(),
            "plan_sha256": plan.digest,
            "counts": counts_of(ordered),
            "timings": {"finished": datetime.now(UTC).isoformat(timespec="seconds"), **timings},
            "environment": dict(environment),
            "shards": [record.as_json() for record in ordered],
        }
        self.place.write(MANIFEST, _json(manifest))
        self.clean()
        return manifest

    def clean(self) -> None:
        """Remove what was there for the work of a data set that is done."""
        self.place.remove(WORK)


def counts_of(records: Iterable[ShardRecord]) -> dict[str, int]:
    """Count what shards have."""
    counts = dict.fromkeys(("shards", "items", "rows", "rejected", "errors", "bytes"), 0)
    for record in records:
        counts["shards"] += 1
        counts["items"] += record.item_count
        counts["rows"] += record.row_count
        counts["rejected"] += record.rejected_count
        counts["errors"] += len(record.faults)
        counts["bytes"] += record.size_bytes
    return counts


def _error_lines(records: Sequence[ShardRecord]) -> bytes:
    lines = [
        json.dumps(asdict(fault), ensure_ascii=False)
        for record in records
        for fault in record.faults
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def _read_plan(fields: Any, url: str) -> Plan:
    try:
        return Plan.from_json(fields)
    except (KeyError, TypeError, ValueError) as error:
        raise OutputError(
            url, "its plan is not of this release of facegen", "choose another folder"
        ) from error


def _read_json(data: bytes, url: str) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise OutputError(
            url, f"holds a file that is no JSON: {error}", "choose another folder"
        ) from error


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()
