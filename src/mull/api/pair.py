"""`Pair` with what a notebook shows of it, and `Differences`: how far apart its two sides are."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from mull.api.progress import observer_of
from mull.api.showing import figure_html, table_text
from mull.checkpoints import pair as pairs

if TYPE_CHECKING:
    import polars

    from mull.geometry.relative_difference import RelativeDifference
    from mull.reports.figures.render import Figure


class Pair(pairs.Pair):
    """An Instruct and a Thinking checkpoint of one model, optionally with their Base.

    `Pair.open(INSTRUCT, THINKING, BASE)` takes folders or hub ids, `Pair.built_in()` the pair that comes with mull.
    `findings()` has what was compared, `check()` raises where the two cannot be mixed. `donor="instruct"` takes chat
    template, tokenizer and generation config from that side.

    Example:
        >>> pair = Pair.open("Qwen/Qwen3-4B-Instruct-2507", "Qwen/Qwen3-4B-Thinking-2507")
        >>> warnings = pair.check()  # raises mull.MullError if the two cannot be mixed
    """

    def differences(self, *, threads: int = 2, quiet: bool = False) -> Differences:
        """How far apart the two sides are, by layer and module kind. Reads all weights once.

        `quiet`: show no bar. Raises `MullError` where the two cannot be mixed, or a file cannot be read.
        """
        self.check()
        total = sum(tensor.instruct.nbytes + tensor.thinking.nbytes for tensor in self.tensors)
        with observer_of(quiet).copying("σ(Instruct, Thinking)", total) as advance:
            from mull.geometry.relative_difference import relative_difference  # imports torch

            return Differences(relative_difference(self, threads=threads, progress=advance))

    @property
    def verdict(self) -> str:
        """Whether the two can be mixed, in one line."""
        refused = any(finding.severity == "refuse" for finding in self.findings())
        return "these two cannot be mixed" if refused else "these two can be mixed"

    def __repr__(self) -> str:
        names = f"{self.instruct.published_name} × {self.thinking.published_name}"
        lines = [f"Pair: {names}, donor {self.donor_side}; {self.verdict}"]
        lines += [f"  {each.severity}: {each.what}" for each in self.findings() if each.severity != "same"]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        cells = ((each.severity, each.code, each.what, each.remedy) for each in self.findings())
        rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in cells)
        names = f"<b>{escape(self.instruct.published_name)}</b> × <b>{escape(self.thinking.published_name)}</b>"
        return f"<p>{names}, donor {self.donor_side}: {self.verdict}</p><table>{rows}</table>"


@dataclass(frozen=True, repr=False)
class Differences:
    """σ = Σ|A−B| / (Σ|A| + Σ|B|) of two checkpoints, from 0 (equal) to 1 (Shadow-FT, arXiv 2505.12716)."""

    measured: RelativeDifference
    """With the cells by (layer, module kind), and the elements that are NaN or infinite."""

    @property
    def overall(self) -> float:
        """σ over all parameters."""
        return self.measured.overall

    @property
    def frame(self) -> polars.DataFrame:
        """One row per layer and module kind: `layer` (null: outside the layers), `module`, `sigma`."""
        import polars

        rows = [(layer, module, sigma) for (layer, module), sigma in self.measured.cells.items()]
        schema = {"layer": polars.Int64, "module": polars.String, "sigma": polars.Float64}
        return polars.DataFrame(rows, schema=schema, orient="row")

    @property
    def figure(self) -> Figure:
        """The heat map, as an Altair chart."""
        from mull.reports.figures.heatmap import heatmap

        return heatmap(self.measured)

    def __repr__(self) -> str:
        from mull.reports.geometry.tables import weights_table

        return table_text(weights_table(self.measured))

    def _repr_html_(self) -> str:
        return f"<p>σ(Instruct, Thinking) = {self.overall:.4f} (0 = equal)</p>{figure_html(self.figure)}"
