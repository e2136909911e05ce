"""λ per query on the paper's page: an evaluation is recognised, its figures are its own, what lacks is named."""

from dataclasses import replace

import polars
import pytest

from mull.dynamic.estimators.fixed import Fixed
from mull.dynamic.evaluation.policies import Policy
from mull.engines.base import Sampling
from mull.errors import MullError
from mull.merging.coefficients import Coefficients
from mull.reports.paper.build import write_paper
from mull.reports.paper.missing import missing
from mull.reports.paper.runs import open_runs
from mull.runs.settings import Route, Setting
from mull.runs.store import RunStore

from .conftest import responses, write_run

QUESTIONS, K = 6, 2
RIGHT = {"0": [2, 2, 2, 0, 0, 0], "1": [2] * QUESTIONS, "conf": [2] * QUESTIONS, "Thinking, budget 20": [2, 0] * 3}
TOKENS = {"0": 10, "1": 100, "conf": 55, "Thinking, budget 20": 50}
POLICIES = [
    *(Policy.static(lam) for lam in (0.0, 1.0)),
    Policy.estimated(Fixed(0.5, "conf")),
    Policy.budgeted(20, Sampling(max_tokens=512)),
]


def evaluation(folder, benchmark="tiny", *, without=(), policies=POLICIES, **more):
    """A run of an evaluation: Instruct solves half, Thinking and the estimator all, the latter with fewer tokens."""
    settings = [policy.setting() for policy in policies]
    samples = [
        replace(sample, stratum="easy" if sample.question < "q003" else "hard")
        for setting in settings
        if setting.label not in without
        for sample in responses(
            setting.label, setting.lam, RIGHT[setting.label], K, benchmark=benchmark, tokens=TOKENS[setting.label]
        )
    ]
    entries = {"study": "other", "benchmark": benchmark, "questions": QUESTIONS, "k": K} | more
    run = write_run(folder / benchmark, settings, samples, **entries)
    with RunStore.amend(run) as store:
        chosen = {f"q{i:03d}": Route(0.1 if i < 3 else 0.9, "", 1, 7) for i in range(QUESTIONS)}
        store.note_routes({"conf": chosen})
    return run


@pytest.mark.parametrize("whole", [True, False])
def test_an_evaluation_is_a_part_of_the_page_with_its_files(whole, tmp_path):
    run = evaluation(tmp_path / "route")
    paper = write_paper([run.parent if whole else run], tmp_path / "out")
    names = {path.relative_to(tmp_path / "out").as_posix() for path in paper.paths}
    figures = {f"figures/{name}{end}" for name in ("routes-tiny", "lambda-conf") for end in (".svg", ".pdf")}
    tables = {f"tables/routes-tiny{end}" for end in (".tex", ".csv", ".parquet", ".md")}
    assert names == {"index.html"} | figures | tables
    text = (tmp_path / "out" / "index.html").read_text()
    for heading in ("Does λ per query pay?", "Accuracy over tokens of each policy, tiny", "λ that conf chose"):
        assert heading in text
    assert "λ per query on tiny: 4 settings × 6 questions × 2 samples" in text
    assert "mull route eval" not in text  # nothing of it is missing
    row = polars.read_csv(tmp_path / "out" / "tables" / "routes-tiny.csv").row(
        by_predicate=polars.col("policy") == "conf", named=True
    )
    # At 55 tokens a mixture of both ends is right for 75 %.
    assert row["gain"] == pytest.approx(0.25) and row["prefilled"] == 7 and row["lam"] == pytest.approx(0.5)


def test_several_benchmarks_are_averaged_and_a_sweep_stays_apart(tmp_path):
    for benchmark, limit in (("tiny-easy", 512), ("tiny-hard", 900)):  # each with its own limit
        policies = [*POLICIES[:3], Policy.budgeted(20, Sampling(max_tokens=limit))]
        evaluation(tmp_path / "route", benchmark, policies=policies)
    settings = [Setting.of(Coefficients.scalar(lam)) for lam in (0.0, 1.0)]
    samples = [s for lam in (0, 1) for s in responses(f"{lam}", float(lam), [1, 1, 0], 2, benchmark="tiny")]
    swept = write_run(tmp_path / "swept", settings, samples, benchmark="tiny")
    paper = write_paper([swept, tmp_path / "route"], tmp_path / "out")
    stems = {path.stem for path in paper.paths}
    assert {"routes-average", "routes-tiny-easy", "routes-tiny-hard", "comparison", "dynamics"} <= stems
    assert "conf" not in (tmp_path / "out" / "tables" / "comparison.csv").read_text()
    assert "conf" in (tmp_path / "out" / "tables" / "routes-average.csv").read_text()
    text = (tmp_path / "out" / "index.html").read_text()
    assert text.index('id="dynamics"') < text.index('id="routing"') < text.index('id="missing"')


def test_an_evaluation_that_is_not_done_is_named_with_the_command_that_goes_on(tmp_path):
    run = evaluation(tmp_path / "route", without=("Thinking, budget 20",))
    paper = write_paper([run.parent], tmp_path / "out")
    assert paper.incomplete == ["tiny (incomplete: 75 %)"]
    assert 'id="routing"' not in (tmp_path / "out" / "index.html").read_text()
    found = [each for each in paper.missing if "λ per query" in each.what]
    assert [each.what for each in found] == ["the rest of λ per query on tiny"]
    assert found[0].command == (
        "mull route eval --instruct org/instruct --thinking org/thinking --benchmark tiny --questions 6 --lambdas 0,1 "
        "--budgets 20 --max-tokens 512 -k 2 --out route"
    )


def test_what_a_head_chose_is_offered_with_a_head(tmp_path):
    policies = [*POLICIES[:2], Policy.exiting(7, 0.9), Policy.brief()]
    settings = [policy.setting() for policy in policies]
    trained = replace(POLICIES[2].setting(), label="pref", policy={"kind": "estimator", "head": "abc"})
    samples = responses("0", 0.0, [1, 1], 1, benchmark="tiny")
    run = write_run(tmp_path / "route" / "tiny", [*settings, trained], samples, study="other", benchmark="tiny", k=1)
    command = missing(open_runs([run]))[-1].command
    assert " --head FILE --benchmark tiny " in command and " --estimators pref --lambdas 0,1 " in command
    assert " --exit-every 7 --exit-at 0.9 --brief " in command


def test_runs_of_two_evaluations_are_refused(tmp_path):
    one = evaluation(tmp_path / "a", "tiny-easy")
    with pytest.raises(MullError, match=r"compare different policies\. Give the runs of one `mull route eval`"):
        open_runs([one, evaluation(tmp_path / "b", "tiny-hard", policies=POLICIES[:3])])
    with pytest.raises(MullError, match="both a study of λ per query on tiny-easy"):
        open_runs([one, evaluation(tmp_path / "c", "tiny-easy", seed=1)])


def test_a_folder_without_an_evaluation_holds_no_run(tmp_path):
    settings = [Setting.of(Coefficients.scalar(lam)) for lam in (0.0, 1.0)]
    write_run(tmp_path / "runs" / "r", settings, responses("0", 0.0, [1], 1), benchmark="tiny")
    with pytest.raises(MullError, match="holds no run"):
        open_runs([tmp_path / "runs"])
