"""Options that the verbs of studies share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RunOption = Annotated[Path, typer.Option("--run", help="Run folder: made, or continued.", metavar="DIR")]
BenchmarkOption = Annotated[str, typer.Option(help="Benchmark, as in `mull sweep`.", metavar="NAME")]
LambdaOption = Annotated[float, typer.Option("--lambda", help="λ of the study.", metavar="λ")]
SamplesOption = Annotated[int, typer.Option("-k", help="Samples per question and setting.", min=1)]
