"""The card of an extracted adapter: the README.md beside its weights."""

from __future__ import annotations

from typing import Any

from mull.escaping import markdown, yaml
from mull.merging.adapter.levels import SERVE, Levels
from mull.merging.adapter.lowrank import Fidelity, LowRankPlan
from mull.merging.streaming.output import MANIFEST


def adapter_card(
    plan: LowRankPlan,
    fidelity: Fidelity,
    title: str,
    kl: dict[str, Any] | None = None,
    levels: Levels | None = None,
) -> str:
    """Markdown with the YAML header of the hub: what the adapter is, what it loses, how to use it.

    `kl` is the entry of mull.json: nats per token by λ. `levels`: those that lie in folders beside it.
    """
    sides = (plan.pair.instruct, plan.pair.thinking)
    # Only a checkpoint from the hub has a name other than its folder; a path on this machine is nobody else's business.
    names = [side.name if side.name != str(side.folder) else side.folder.resolve().name for side in sides]
    header = ["---", "library_name: peft", "tags:", "- lora", "- mull"]
    if sides[0].name != str(sides[0].folder):
        header += [f"base_model: {yaml(names[0].split('@')[0])}", "base_model_relation: adapter"]
    represented = fidelity.represented
    share = represented.delta / fidelity.total if fidelity.total else float("nan")
    body = [
        f"# {markdown(title)}",
        "",
        f"A LoRA adapter of rank {plan.rank}: the difference Δ = Thinking − Instruct of two checkpoints, cut to low",
        "rank by truncated SVD with mull. On the Instruct model at scale λ it approximates",
        "Θ(λ) = λ·Thinking + (1−λ)·Instruct (Wu et al. 2025, [arXiv 2510.10977](https://arxiv.org/abs/2510.10977)).",
        "",
        "| | |",
        "|---|---|",
        f"| base model (Instruct) | {markdown(names[0])} |",
        f"| Thinking | {markdown(names[1])} |",
        f"| selected | {plan.selection.label if plan.selection.rules else 'all linear layers'} |",
        f"| lora_alpha | {plan.rank}, so scale 1 stands for Thinking and scale λ for Θ(λ) |",
        f"| chat template | not part of an adapter; Θ(λ) as mull makes it has that of {markdown(names[1])} |",
        "",
        "## What it loses",
        "",
        f"Linear layers with factors hold {share:.1%} of ‖Δ‖². Of that the rank keeps {represented.kept_share:.1%};",
        f"‖Δ − B·A‖ / ‖Δ‖ is {represented.relative_error:.3f} over these layers and "
        f"{fidelity.whole_model_error:.3f} over the whole model.",
        "",
        "| module kind | kept Σσ²/‖Δ‖² | ‖Δ − B·A‖/‖Δ‖ |",
        "|---|---|---|",
        *(f"| {kind} | {loss.kept_share:.1%} | {loss.relative_error:.3f} |" for kind, loss in fidelity.kinds().items()),
    ]
    rest = fidelity.rest_shares()
    if rest:
        body += ["", "Without factors, with the share of ‖Δ‖²: " + rest_text(fidelity) + "."]
    if fidelity.stored_whole:
        body += [
            "",
            f"{len(fidelity.stored_whole)} of these tensors are stored whole (modules_to_save): at every scale they",
            "are Thinking's, and engines other than PEFT may refuse them.",
        ]
    if kl:
        body += ["", *kl_table(kl)]
    if levels:
        body += ["", *_levels_text(levels)]
    body += ["", f"Figures by layer and tensor: {MANIFEST}."]
    return "\n".join([*header, "---", "", *body, ""])


def rest_text(fidelity: Fidelity) -> str:
    """What has no factors and its share of ‖Δ‖², largest first."""
    return ", ".join(f"{reason} {share:.2%}" for reason, share in fidelity.rest_shares().items())


def _levels_text(levels: Levels) -> list[str]:
    names = ", ".join(f"`{name}`" for name in levels.names)
    return [
        "## λ by the name of a model",
        "",
        f"The folders {names} hold this adapter, each at the λ of its name.",
        f"λ stands in lora_alpha; the weights are the same file. `sh {SERVE}` starts vLLM, without any plugin, on the",
        f"base model as `{levels.name}@0` and on all of them, with chat template and sampling defaults of the Thinking",
        f"model. `mull sweep --endpoint http://127.0.0.1:8000/v1 --model-map '{levels.name}@{{lambda}}'` measures it.",
    ]


def kl_table(kl: dict[str, Any]) -> list[str]:
    """Markdown lines of the KL divergences in nats per token."""
    prompts, positions = kl["prompts"], kl["positions"]
    lines = [
        f"KL divergence in nats per token, {prompts} prompts × up to {positions} positions, ± one standard error over",
        "prompts:",
        "",
        "| λ | KL(Θ(λ) ‖ Instruct) | KL(Θ(λ) ‖ Instruct + λ·adapter) |",
        "|---|---|---|",
    ]
    for row in kl["lambdas"]:
        lines.append(f"| {row['lambda']:g} | {nats(row['instruct'])} | {nats(row['adapter'])} |")
    return lines


def nats(value: dict[str, float | None]) -> str:
    """Mean ± standard error."""
    error = value["standard_error"]
    return f"{value['mean']:.3g}" + (f" ± {error:.1g}" if error is not None else "")
