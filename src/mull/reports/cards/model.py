"""The model card of a merged checkpoint: the README.md that the hub shows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from yaml import safe_dump

from mull import __version__
from mull.checkpoints.fingerprint import fingerprint
from mull.checkpoints.pair import Pair
from mull.escaping import markdown, yaml
from mull.merging.methods.mi import Mi
from mull.merging.streaming.plan import MergePlan
from mull.reports.cards.licenses import license_of

if TYPE_CHECKING:
    from mull.reports.cards.measured import Measured


def model_card(plan: MergePlan, title: str, *, own_template: bool = False, measured: Measured | None = None) -> str:
    """Markdown with the YAML header that the hub reads (base_model, tags) and how the model was made.

    `own_template`: the chat template is not the donor's. `measured`: what a run measured of this model, which becomes
    evaluation results in the header and a section of the body.
    """
    group = plan.group
    header: dict[str, Any] = {"library_name": "transformers", "tags": ["merge", "mull"]}
    header["tags"] += [plan.method.name] if plan.method.name != "mi" else []
    entries, unlicensed = license_of(group.by_role)
    header |= entries
    header |= {"pipeline_tag": "text-generation"} if measured else {}
    on_hub = list(dict.fromkeys(model.name.split("@")[0] for model in group.by_role.values() if model.is_on_hub))
    header |= {"base_model": on_hub, "base_model_relation": "merge"} if on_hub else {}
    header |= {"model-index": measured.index(title)} if measured else {}
    sign, value = plan.coefficient
    rows = [(role.capitalize(), model.published_name) for role, model in group.by_role.items()]
    rows += [("method", plan.method_label)] if plan.method != Mi() else []
    rows += [(sign, value)] if sign else []
    rows += [("template", "from the recipe")] if own_template else []
    rows += [
        ("tokenizer, generation config" if own_template else "template, tokenizer, generation config", _donor(plan))
    ]
    rows += [("rounding", _rounding(plan))]
    rows += [("license", unlicensed)] if unlicensed else []
    findings = [f"- {_finding(f.what)}" for f in group.findings() if f.severity != "same"]
    body = [
        f"# {markdown(title)}",
        "",
        *_introduction(plan),
        "",
        "| | |",
        "|---|---|",
        *(f"| {a} | {markdown(b)} |" for a, b in rows),
    ]
    if findings:
        between = "the two sides" if isinstance(group, Pair) else "the models"
        body += ["", f"Differences between {between}:", "", *findings]
    body += measured.lines(plan) if measured else []
    top = safe_dump(header, sort_keys=False, allow_unicode=True, width=120)
    return "\n".join([f"---\n{top}---", "", *body, *_provenance(plan), ""])


def _provenance(plan: MergePlan) -> list[str]:
    """What is needed to do the merge again, as YAML; the same and more is in mull.json."""
    coefficients = plan.coefficients.to_json()
    lines = [f"mull: {__version__}", f"method: {plan.method.name}"]
    parameters = plan.method.to_json()["parameters"]
    lines += [f"{name}: {json.dumps(value)}" for name, value in parameters.items() if value is not None]
    lines += [f"varying: {json.dumps(plan.varying.to_json())}"] if plan.varying.parameters else []
    if plan.method.takes:
        lines += [f"{plan.method.takes}: {plan.coefficients.default:g}"]
        lines += [f"rules: {json.dumps(coefficients['rules'])}"] if coefficients["rules"] else []
    lines += [f"donor: {plan.group.donor_role}", f"dtype: {plan.dtype or 'of the donor'}", "models:"]
    for role, model in plan.group.by_role.items():
        size = f"{model.parameters / 1e6:.1f} M parameters"
        lines.append(f"  {role}: {yaml(model.published_name)}  # {size}, fingerprint {fingerprint(model)}")
    return ["", "## Provenance", "", "```yaml", *lines, "```"]


def _introduction(plan: MergePlan) -> list[str]:
    if plan.method == Mi() and isinstance(plan.group, Pair):
        return [
            "A model between an Instruct and a Thinking checkpoint, interpolated with mull:",
            "Θ(λ) = λ·Thinking + (1−λ)·Instruct (Wu et al. 2025, [arXiv 2510.10977](https://arxiv.org/abs/2510.10977)).",
        ]
    return [
        f"A merge of {len(plan.group.models)} checkpoints of one model, made with mull by the method "
        f"`{plan.method.name}` ({plan.method.paper})."
    ]


def _finding(text: str) -> str:
    return markdown(text).replace("\\<think\\>", "`<think>`")


def _donor(plan: MergePlan) -> str:
    return f"{plan.group.donor_role} side" if isinstance(plan.group, Pair) else plan.group.donor_role


def _rounding(plan: MergePlan) -> str:
    ends = "; weights at λ = 0 and λ = 1 byte for byte" if plan.method.takes == "lambda" else ""
    return "once per element" + ends
