"""The figures of a run on a model card: the hub's own client reads them back, and they are those of the run."""

import shutil
from dataclasses import replace

import pytest
import yaml
from huggingface_hub import ModelCard

from mull.benchmarks.catalog import SPECS
from mull.checkpoints.checkpoint import Checkpoint
from mull.checkpoints.pair import Pair
from mull.errors import MullError
from mull.merging.coefficients import Coefficients
from mull.merging.streaming.plan import plan_merge
from mull.reports.cards.measured import Measured, of_run
from mull.reports.cards.model import model_card
from mull.reports.results import results
from mull.tiny import checkpoint_folder


@pytest.fixture(scope="module")
def pair():
    return Pair.built_in()


def load(text, tmp_path):
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    return ModelCard.load(tmp_path / "README.md")


def card_of(found, pair, lam=0.6):
    return model_card(plan_merge(pair, Coefficients.scalar(lam)), "mixed", measured=Measured.at(found, lam, None))


def test_the_hubs_client_reads_every_metric_back(found, pair, tmp_path):
    read = load(card_of(found, pair), tmp_path)
    own = next(m for m in found.metrics if m.lam == 0.6)
    values = {each.metric_type: each for each in read.data.eval_results}
    assert values["accuracy"].metric_value == pytest.approx(own.mean_at_k.value, abs=1e-6)
    assert values["pass@k"].metric_value == pytest.approx(own.pass_at_k.value, abs=1e-6)
    assert values["tokens per response"].metric_value == pytest.approx(own.tokens.value, abs=1e-6)
    assert read.data.model_name == "mixed" and read.data.pipeline_tag == "text-generation"
    assert {(each.dataset_type, each.task_type) for each in read.data.eval_results} == {("sums", "text-generation")}
    assert values["accuracy"].dataset_args == {"questions": 60, "responses": 240}
    # The two-sided 95 % quantile of Student's t with 59 degrees of freedom, by a table of it.
    limits = values["accuracy"].metric_args
    assert limits["low"] == pytest.approx(own.mean_at_k.value - 2.001 * own.mean_at_k.error, abs=1e-4)
    assert limits["high"] == pytest.approx(own.mean_at_k.value + 2.001 * own.mean_at_k.error, abs=1e-4)
    assert f"95 % interval {limits['low']:.4g} to {limits['high']:.4g}" in values["accuracy"].metric_name


def test_the_text_has_all_lambdas_and_no_other_setting(found, pair, tmp_path):
    text = card_of(found, pair)
    rows = [line for line in text.splitlines() if line.startswith(("| 0", "| 1 "))]
    assert [row.split("|")[1].strip() for row in rows[:11]] == [
        "0", "0.2", "0.3", "0.4", "0.45", "0.5", "0.55", "0.6 ●", "0.7", "0.8", "1",
    ]  # fmt: skip
    assert "ta <0.7>" not in text and "ta \\<0.7\\>" not in text
    assert "| questions × samples | 60 × 4 |" in text and "| engine | local, float32 |" in text
    assert "mull sweep --instruct instruct --thinking thinking --benchmark FILE" in text
    assert "mull merge --instruct instruct --thinking thinking --lambda 0.6" in text


def test_a_known_benchmark_is_named_as_on_the_hub(found, pair, tmp_path):
    whole = replace(found, benchmark="math500")
    first, *_ = load(card_of(whole, pair), tmp_path).data.eval_results
    source = SPECS["math500"].source
    assert (first.dataset_type, first.dataset_revision) == (source.repo, source.revision)
    assert first.dataset_name == "MATH-500, 60 of 500 questions"
    own_file = replace(whole, provenance={**found.provenance, "data": "/home/me/secret/math.jsonl"})
    text = card_of(own_file, pair)
    assert load(text, tmp_path).data.eval_results[0].dataset_revision is None  # nobody knows what is in that file
    assert "--data math.jsonl" in text and "secret" not in text


def test_the_commands_name_what_was_compared_and_no_path(found, pair):
    settings = {"0.6": {}, "ties:alpha=0.5,density=0.2": {"method": "ties"}}
    compared = {**found.plan, "study": "compare", "settings": settings}
    places = {**found.provenance, "base": "/home/me/secret/base"}
    text = card_of(replace(found, plan=compared, provenance=places), pair)
    assert "--base base --method ties:alpha=0.5,density=0.2 --benchmark" in text
    assert "secret" not in text and "HYBRID" not in text


def test_certainty_is_never_claimed(make, pair, tmp_path):
    """All of n questions right is no interval of width 0: with 95 % confidence at least 0.025^(1/n) of all are."""
    with make(tmp_path / "run", lambdas=(0, 1), questions=5, k=1) as store:
        found = results(store)
    own = next(m for m in found.metrics if m.lam == 1)
    sure = replace(own, mean_at_k=own.mean_at_k._replace(value=1.0, error=0.0))
    measured = Measured(replace(found, metrics=[found.metrics[0], sure]), sure)
    limits = next(each for each in measured.eval_results() if each.metric_type == "accuracy").metric_args
    assert limits == {"confidence": 0.95, "low": pytest.approx(0.025**0.2, abs=1e-6), "high": 1.0}
    assert "pass@k" not in {each.metric_type for each in measured.eval_results()}  # with one sample it says the same


def test_foreign_names_stay_text(found, pair, tmp_path):
    hostile = replace(found, benchmark='x: [</script>]\n---\n"\u202e', provenance={**found.provenance, "data": "a`b"})
    read = load(card_of(hostile, pair), tmp_path)
    assert read.data.eval_results[0].dataset_type == 'x: [</script>]\n---\n"\\u202e'
    assert "<script>" not in read.text and "a`b" not in read.text


@pytest.mark.parametrize(
    ("lam", "changed", "said"),
    [
        (0.65, {}, "0.65 was not measured in .* It has 0, 0.2"),
        (0.6, {"planned": 10**6}, "is not finished: 2,880 of 1,000,000 responses"),
        (0.6, {"plan": {"models": {}}}, "servers answered"),
        (0.6, {"metrics": []}, "other weights than one λ"),
    ],
)
def test_what_no_card_can_show(found, lam, changed, said):
    with pytest.raises(MullError, match=said):
        Measured.at(replace(found, **changed), lam, None)


def test_of_a_race_the_lambda_must_be_finished(found):
    assert Measured.at(replace(found, planned=10**6), 0.6, ["0.2"]).chosen.lam == 0.6
    with pytest.raises(MullError, match=r"λ = 0.2 is not finished"):
        Measured.at(replace(found, planned=10**6, plan={**found.plan, "k": 8}), 0.2, ["0.2"])


@pytest.mark.parametrize(
    ("coefficients", "options", "said"),
    [
        (Coefficients.only(0.6, modules=["ffn"]), {}, "one λ between the ends"),
        (Coefficients.scalar(0.6), {}, "instruct is not the Instruct checkpoint of the run"),
    ],
)
def test_other_models_than_the_measured_one(run_folder, pair, coefficients, options, said):
    with pytest.raises(MullError, match=said):
        of_run(run_folder, [plan_merge(pair, coefficients, **options)])


def test_donor_and_dtype_are_those_of_the_run(found, pair):
    record = {**found.plan, **pair.fingerprints}
    measured = Measured.at(replace(found, plan=record), 0.6, None)
    measured.check(plan_merge(pair, Coefficients.scalar(0.6)))
    with pytest.raises(MullError, match="Leave the dtype out"):
        measured.check(plan_merge(pair, Coefficients.scalar(0.6), dtype="float32"))
    with pytest.raises(MullError, match="Give --donor thinking"):
        measured.check(plan_merge(Pair.built_in(donor="instruct"), Coefficients.scalar(0.6)))


def licensed(tmp_path, **licenses):
    """The built-in pair with cards that begin with these headers."""
    ends = []
    for side in ("instruct", "thinking"):
        folder = shutil.copytree(checkpoint_folder(side), tmp_path / side)
        if licenses.get(side):
            (folder / "README.md").write_text(f"---\n{licenses[side]}\n---\n# {side}\n")
        ends.append(Checkpoint(folder))
    return model_card(plan_merge(Pair(*ends), Coefficients.scalar(0.6)), "mixed")


@pytest.mark.parametrize(
    ("instruct", "thinking", "entries", "said"),
    [
        ("license: apache-2.0", "license: apache-2.0", {"license": "apache-2.0"}, ""),
        (
            "license: other\nlicense_name: own\nlicense_link: LICENSE",
            "license_link: LICENSE\nlicense_name: own\nlicense: other",
            {"license": "other", "license_name": "own", "license_link": "LICENSE"},
            "",
        ),
        ("license: mit", "license: apache-2.0", {}, "instruct: mit, thinking: apache-2.0"),
        ("license: mit", "", {}, "instruct: mit, thinking: unknown"),
        ("license: [mit", "license: {a: b}", {}, ""),
        ("", "", {}, ""),
    ],
)
def test_a_license_is_stated_where_the_models_agree(tmp_path, instruct, thinking, entries, said):
    text = licensed(tmp_path, instruct=instruct, thinking=thinking)
    header = yaml.safe_load(text.split("---")[1])
    assert {key: value for key, value in header.items() if key.startswith("license")} == entries
    assert (said in text) if said else ("| license |" not in text)


def test_several_benchmarks_have_results_of_their_own(found, pair, tmp_path):
    parts = {name: replace(found, benchmark=name, part=f"{name}-") for name in ("sums", "products")}
    text = card_of(replace(found, parts=parts, benchmark="sums, products"), pair)
    read = load(text, tmp_path).data.eval_results
    assert {each.dataset_type for each in read} == {"sums", "products"}
    assert len(read) == 2 * len(load(card_of(found, pair), tmp_path).data.eval_results)
    assert text.count("| benchmark |") == 2 and "### products: every λ" in text
    assert text.count("\nmull sweep ") == 2 and text.count("\nmull merge ") == 1
