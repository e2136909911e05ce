"""A run's samples as a polars data frame or a Parquet file, read in blocks. One row per sample, scores as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import polars
from polars.io.plugins import register_io_source

from mull.analysis.records import Sample
from mull.errors import MullError
from mull.folders import whole_file
from mull.runs.database import scores_to_json
from mull.runs.store import COLUMNS, TYPES, RunStore

_BLOCK = 64
"""Samples in memory at once."""


def lazy_frame(store: RunStore) -> polars.LazyFrame:
    """All samples, read when polars asks for them. Raises `MullError` if the store's later grades are incomplete."""
    if store.grading is not None:
        store.later_grades.of(store.grading)  # raises here, because inside polars the error would be another one
    kinds = {"REAL": polars.Float64, "INTEGER": polars.Int64}
    schema = {name: kinds.get(TYPES.get(name, ""), polars.String) for name in COLUMNS}
    schema = polars.Schema({**schema, "correct": polars.Boolean})

    def blocks(
        columns: list[str] | None, predicate: polars.Expr | None, rows: int | None, size: int | None
    ) -> Iterator[polars.DataFrame]:
        with RunStore.open(store.folder, grading=store.grading) as reader:  # polars calls this in another thread
            samples = islice(reader.each(), rows)
            while block := list(islice(samples, min(size or _BLOCK, _BLOCK))):
                values = [[_cell(sample, name) for name in COLUMNS] for sample in block]
                frame = polars.DataFrame(values, schema=schema, orient="row")
                frame = frame.filter(predicate) if predicate is not None else frame
                yield frame.select(columns) if columns is not None else frame

    return register_io_source(blocks, schema=schema)


def write_parquet(store: RunStore, path: Path) -> None:
    """Write all samples to a Parquet file. Raises `MullError` where that fails, and then leaves no file."""
    with whole_file(path) as partial:
        try:
            lazy_frame(store).sink_parquet(partial, row_group_size=4 * _BLOCK)
        except polars.exceptions.PolarsError as error:
            what = f"cannot write {path}: {str(error).rpartition('error: ')[2]}"
            raise MullError(what, "free space on its disk, or choose another file") from None


def _cell(sample: Sample, name: str) -> Any:
    return scores_to_json(sample.scores) if name == "scores" else getattr(sample, name)
