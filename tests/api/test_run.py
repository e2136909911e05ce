"""A run's figures as frames and records; choices and reports from it; runs that are stopped and go on."""

from dataclasses import replace

import pytest

import mull
from mull.analysis.choosing.choose import choose
from mull.analysis.choosing.options import Goal
from mull.api import sweeping
from mull.api.plans import Options, plan_of
from mull.merging.coefficients import Coefficients
from mull.merging.methods import make
from mull.runs.sessions.loading import LocalLoader
from mull.runs.sessions.observer import Observer
from mull.runs.sessions.vllm import VllmLoader
from mull.runs.settings import Setting
from mull.runs.store import RunStore
from mull.tiny import checkpoint_folder

from .conftest import SMALL


def test_metrics_are_those_of_the_samples(run):
    frame = run.metrics
    assert frame["setting"].to_list() == ["0", "0.6", "1"]
    samples = run.samples.collect()
    assert samples.height == 3 * 6 * 2 and all(samples["text"])
    for row in frame.iter_rows(named=True):
        own = samples.filter(setting=row["setting"])
        assert row["mean_at_k"] == pytest.approx(own["correct"].mean())
        assert row["tokens"] == pytest.approx(own["tokens"].mean())
    assert frame["samples"].sum() == samples.height


def test_records_and_frames_of_it_agree(run):
    assert run.results.complete and run.stages is run.results.stages
    assert run.frontier["setting"].to_list() == [point.setting for point in run.results.frontier.points]
    assert run.frontier["tokens"].is_sorted()
    assert set(run.differences["setting"]) == {"0", "0.6"} and set(run.differences["reference"]) == {"1"}
    assert run.words in repr(run)


def test_it_shows_its_table_and_figure(run):
    assert repr(run).startswith(f"Run in {run.folder}: instruct → thinking: tiny, 6 questions × k = 2\n")
    for text in ("0.6", "Token #N", "± one standard error"):
        assert text in repr(run)
    page = run._repr_html_()
    assert "<svg" in page and "Token #N</th>" in page
    best = run.frontier["setting"].to_list()
    assert [name for name in ("0", "0.6", "1") if f">{name} ●</th>" in page] == sorted(best)


def test_a_choice_is_that_of_the_analysis_and_gives_its_reasons(run):
    found = run.choose(budget=150)
    with RunStore.open(run.folder) as store:
        expected = choose(store.samples(texts=False), Goal(budget=150))
    assert expected.pick is not None and found.lam == expected.pick.lam == found.pick.lam
    assert found.found.confidence == expected.confidence
    assert found.headline[0] in repr(found) and found.reasons[-1] in repr(found)
    assert found.options["setting"].to_list() == ["0", "0.6", "1"]
    assert "at most 150 tokens" in found._repr_html_() and "<table" in found._repr_html_()
    assert run.choose(budget=1).lam is None
    with pytest.raises(mull.MullError, match="budget or a floor"):
        run.choose()


def test_a_report_is_written_and_its_page_returned(run, tmp_path):
    page = run.report(tmp_path / "page")
    assert page == tmp_path / "page" / "report.html" and page.is_file()
    assert (tmp_path / "page" / "metrics.csv").is_file()


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(mull.MullError, match="holds no run"):
        mull.Run.open(tmp_path)


def test_settings_make_an_ablation(pair, tmp_path):
    ta = mull.Recipe(Coefficients.scalar(0.5, extrapolate=True), make("ta"), base="base")
    settings = {"all": 0.8, "ffn": Coefficients.only(0.8, modules=["ffn"]), "ta": ta}
    few = {**SMALL, "questions": 2, "k": 1, "max_tokens": 40}
    others = {"base": checkpoint_folder("base")}
    run = mull.sweep(pair, out=tmp_path / "run", settings=settings, others=others, **few)
    assert set(run.metrics["setting"]) == {"all", "ffn", "ta"} and run.metrics["lambda"].null_count() == 3
    assert "<svg" in run._repr_html_() and run.stages is None


def test_vllm_answers_where_it_is_asked_to():
    options: Options = {
        "engine": "vllm",
        "engine_options": {"tensor_parallel_size": 2},
        "questions": 2,
        "dtype": "float16",
    }
    planned = plan_of(None, "tiny", [0, 1], 1, None, {}, options)
    assert planned.loader == VllmLoader(options={"tensor_parallel_size": 2}, dtype="float16")
    served = plan_of(None, "tiny", [0, 1], 1, None, {}, {"engine": "vllm-server", "batch_size": 8})
    assert served.loader == VllmLoader(served=True, batch_size=8)
    assert plan_of(None, "tiny", "0:1:0.5", 1, None, {}, {"max_tokens": 9}).loader == LocalLoader(strict=True)


def test_a_stopped_sweep_goes_on_and_a_complete_one_loads_no_engine(pair, tmp_path, monkeypatch, run):
    class Stops(Observer):
        """As a kernel's interrupt: after five responses."""

        def sweeping(self, plan, on_record):
            return _Stopping()

    monkeypatch.setattr(sweeping, "observer_of", lambda quiet: Stops())
    with pytest.raises(KeyboardInterrupt):
        mull.sweep(pair, out=tmp_path / "run", **SMALL)
    monkeypatch.undo()
    begun = mull.Run.open(tmp_path / "run")
    assert begun.samples.collect().height == 5 and "incomplete: 5 of 36 responses" in repr(begun)
    whole = mull.sweep(pair, out=tmp_path / "run", **SMALL)
    key = ["setting", "question", "index"]
    assert whole.samples.collect().drop("seconds").sort(key).equals(run.samples.collect().drop("seconds").sort(key))
    monkeypatch.setattr("mull.engines.local.engine.LocalEngine", None)
    assert mull.sweep(pair, out=tmp_path / "run", **SMALL).results.complete


class _Stopping:
    def __enter__(self):
        count = iter(range(4))

        def on_sample(sample):
            if next(count, None) is None:
                raise KeyboardInterrupt

        return on_sample

    def __exit__(self, *_):
        return None


def test_a_race_chooses_with_a_part_of_the_sweep(pair, tmp_path):
    few = {**SMALL, "questions": 8, "lambdas": [0, 0.6, 1]}
    found = mull.choose(pair, budget=120, out=tmp_path / "run", **few)
    assert found.outcome is not None and found.outcome.full == 3 * 8 * 2
    assert found.lam in (0, 0.6, None) and "at most 120 tokens" in repr(found)
    assert mull.Run.open(tmp_path / "run").samples.collect().height == found.outcome.asked


def test_responses_of_a_server(serve, tmp_path):
    url = serve()
    run = mull.sweep(
        endpoint=url, model="name@{lambda}", lambdas=[0, 1], questions=2, k=1, out=tmp_path / "run", quiet=True
    )
    assert run.metrics["lambda"].to_list() == [0, 1]
    assert "name@0 → name@1" in repr(run)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temprature": 1}, "Did you mean 'temperature'"),
        ({"temperature": -1}, "temperature must be"),
        ({"engine": "sglang"}, "no engine 'sglang'"),
        ({"engine": "vllm", "device": "cpu"}, "Leave device out"),
        ({"engine_options": {}}, 'engine="vllm"'),
        ({"engine": "vllm", "engine_options": {"dtype": "half"}}, "dtype cannot be given to vLLM here. Give --dtype"),
        ({"engine": "vllm-server", "engine_options": {"port": 80}}, "port cannot be given"),
        ({"model": "a"}, "none is named"),
        ({"endpoint": "http://localhost:1/v1", "device": "cpu"}, "device cannot be had from servers"),
        ({"endpoint": "http://localhost:1/v1"}, "model is missing"),
        ({"lambdas": [1.5]}, "lambda must lie in"),
        ({"others": {"thinking": "x"}}, "cannot be called 'thinking'"),
        ({"benchmark": "maths500"}, "unknown benchmark"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(tmp_path, options, said):
    with pytest.raises(mull.MullError, match=said):
        mull.sweep(out=tmp_path / "run", quiet=True, **options)
    assert not list(tmp_path.iterdir())


def test_a_run_is_found_after_the_working_directory_has_changed(run, tmp_path, monkeypatch):
    monkeypatch.chdir(run.folder.parent)
    opened = mull.Run.open(run.folder.name)
    monkeypatch.chdir(tmp_path)
    assert opened.metrics.equals(run.metrics) and repr(opened).startswith(f"Run in {run.folder.name}: ")


def test_a_prompt_of_ones_own_is_part_of_the_plan():
    own: Options = {"questions": 2, "prompt": "Add: {question}", "system": "Be brief."}
    plan = plan_of(None, "tiny", [0.0], 1, None, {}, own).plan
    assert plan.record["benchmark"]["prompt"] == "Add: {question}" and plan.record["benchmark"]["system"] == "Be brief."
    assert plan.digest != plan_of(None, "tiny", [0.0], 1, None, {}, {"questions": 2}).plan.digest


@pytest.mark.parametrize("options", [{"engine": "vllm-server"}, {"engine": "vllm", "unrounded": True}])
def test_a_setting_that_a_row_cannot_have_is_refused_in_a_run_that_goes_on_too(options):
    """There the engine's name is on record, and no loader is asked for it."""
    planned = plan_of(None, "tiny", [0, 1], 1, None, {}, {"questions": 2, **options})
    layers = Setting.of(Coefficients.only(0.8, layers=(0, 1)))
    with pytest.raises(mull.MullError, match="more than that"):
        planned.loader.load(replace(planned.plan, settings=[*planned.plan.settings, layers]), Observer())


def test_a_server_of_vllm_has_no_place_for_ends():
    with pytest.raises(mull.MullError, match="Leave --ends out"):
        plan_of(None, "tiny", [0, 1], 1, None, {}, {"engine": "vllm-server", "ends": "files"})
