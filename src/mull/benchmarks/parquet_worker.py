"""The process that reads a Parquet file: its bytes come on stdin, its rows go to stdout, one JSON object per line.

A small file can unpack to gigabytes, and a damaged one can make polars end the process, so this is one of its own,
with limits where the system has them. The last line on stderr says why there are no rows.
"""

from __future__ import annotations

import io
import json
import sys

import polars

from mull import portable
from mull.worker import limit_memory

MEMORY = 400 << 20
"""Most bytes that reading may allocate."""
SECONDS = 12
"""Most seconds of CPU time."""
TOO_MUCH = 3
"""Exit code."""


def main(most: int) -> None:
    """Write the rows; ends with `TOO_MUCH` where they take more than `most` bytes."""
    resource = portable.module("resource")
    if resource is not None:
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    content = io.BytesIO(sys.stdin.buffer.read())
    limit_memory(MEMORY)
    written = 0
    for row in polars.read_parquet(content, low_memory=True).iter_rows(named=True):
        line = json.dumps(row, default=str).encode() + b"\n"
        written += len(line)
        if written > most:
            sys.exit(TOO_MUCH)
        sys.stdout.buffer.write(line)


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]))
    except polars.exceptions.PolarsError as error:
        sys.exit(str(error).splitlines()[0])
