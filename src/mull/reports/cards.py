"""The model card of a merged checkpoint: the README.md that the hub shows."""

from __future__ import annotations

from mull.merging.plan import MergePlan


def model_card(plan: MergePlan, title: str) -> str:
    """Markdown with the YAML header that the hub reads (base_model, tags) and how the model was made."""
    pair = plan.pair
    sides = (pair.instruct, pair.thinking)
    # Only a checkpoint from the hub has a name other than its folder; a path on this machine is nobody else's business.
    names = [side.name if side.name != str(side.folder) else side.folder.resolve().name for side in sides]
    on_hub = [side.name.split("@")[0] for side in sides if side.name != str(side.folder)]
    header = ["---", "library_name: transformers", "tags:", "- merge", "- mull"]
    if on_hub:
        header += ["base_model:", *(f"- {name}" for name in on_hub), "base_model_relation: merge"]
    header.append("---")
    findings = [f"- {f.what.replace('<think>', '`<think>`')}" for f in pair.findings() if f.severity != "same"]
    body = [
        f"# {title}",
        "",
        "A model between an Instruct and a Thinking checkpoint, interpolated with mull:",
        "Θ(λ) = λ·Thinking + (1−λ)·Instruct (Wu et al. 2025, [arXiv 2510.10977](https://arxiv.org/abs/2510.10977)).",
        "",
        "| | |",
        "|---|---|",
        f"| Instruct | {names[0]} |",
        f"| Thinking | {names[1]} |",
        f"| λ | {plan.coefficients.label} |",
        f"| template, tokenizer, generation config | {pair.donor_side} side |",
        "| rounding | once per element; weights at λ = 0 and λ = 1 byte for byte |",
    ]
    if findings:
        body += ["", "Differences between the two sides:", "", *findings]
    return "\n".join([*header, "", *body, ""])
