"""Runs are recognised by their plans; what does not belong together is refused with names and remedy."""

import pytest

from mull.errors import MullError
from mull.merging.coefficients import Coefficients
from mull.reports.paper.runs import OWN_INSTRUCT, open_runs
from mull.runs.paper import studies
from mull.runs.plan import StudyKind
from mull.runs.settings import Setting


def grid(*lams):
    return [Setting.of(Coefficients.scalar(lam)) for lam in lams]


@pytest.fixture
def sweep(run, answers, tmp_path):
    """Writes a sweep of 3 questions × 2 samples under a name: right answers by λ."""

    def write(name, rights, **more):
        samples = [s for lam, right in rights.items() for s in answers(f"{lam:g}", lam, right, 2)]
        return run(tmp_path / name, grid(*rights), samples, **more)

    return write


@pytest.fixture
def compared(run, answers, tmp_path):
    """Writes a comparison of λ = 0.5 and 1 with SLERP."""

    def write(name, **more):
        settings = [s for s in studies.comparison_settings([0.5, 1], base=False, hybrid=False) if "0.8" not in s.label]
        lams = {"0.5": 0.5, "1": 1.0, "slerp 0.5": None}
        samples = [s for label, lam in lams.items() for s in answers(label, lam, [2, 2, 2], 2)]
        return run(tmp_path / name, settings, samples, **more)

    return write


def test_a_sweep_and_a_comparison_of_one_benchmark_are_joined(sweep, compared):
    folders = [compared("c"), sweep("s", {0: [0, 0, 1], 0.5: [1, 1, 1]})]
    found = open_runs(folders)
    assert [run.kind for run in found.runs] == [StudyKind.compare, StudyKind.sweep]
    (arena,) = found.arenas
    # 0.5 is in both: it counts once, from the sweep.
    assert {m.setting: m.mean_at_k.value for m in arena.metrics} == pytest.approx(
        {"0": 1 / 6, "0.5": 0.5, "1": 1, "slerp 0.5": 1}
    )
    assert [m.setting for m in arena.sweep] == ["0", "0.5", "1"]
    assert len(arena.samples) == 24


def test_the_papers_benchmarks_come_first_in_its_order(sweep):
    folders = [sweep(b, {0: [0, 0, 0], 1: [1, 1, 1]}, benchmark=b) for b in ("sums", "gpqa", "aime25")]
    assert [arena.benchmark for arena in open_runs(folders).arenas] == ["aime25", "gpqa", "sums"]


def test_instruct_sampled_its_own_way_is_a_row_of_its_own(sweep):
    own = {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "max_tokens": 512}
    folders = [sweep("s", {0: [0, 0, 1], 1: [2, 2, 2]}), sweep("i", {0: [1, 1, 1]}, sampling_record=own)]
    (arena,) = open_runs(folders).arenas
    assert [m.setting for m in arena.metrics] == ["0", "1", OWN_INSTRUCT]
    assert open_runs(folders[1:]).arenas[0].metrics[0].setting == "0", "alone it is a sweep like any other"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"instruct": "f" * 16}, r"not of the same models \(instruct: .*a{16}.*→.*f{16}"),
        ({"donor": "instruct"}, r"not of the same models \(donor: thinking → instruct\)"),
        ({"k": 3}, r"cannot stand in one table of sums \(k: 2 → 3\)"),
        ({"benchmark": "sums", "questions_hash": "d" * 16}, "cannot stand in one table of sums .*questions"),
    ],
)
def test_incompatible_runs(sweep, compared, change, message):
    folders = [sweep("s", {0: [0, 0, 1], 1: [1, 1, 1]}), compared("c", **change)]
    with pytest.raises(MullError, match=message) as caught:
        open_runs(folders)
    assert str(folders[0]) in str(caught.value) and str(folders[1]) in str(caught.value)


def test_other_sampling_is_no_row_of_the_same_table(sweep, compared):
    own = {"temperature": 1.0, "top_p": 0.8, "top_k": 20, "max_tokens": 512}
    with pytest.raises(MullError, match=r"cannot stand in one table.*temperature: 0.6 → 1.0"):
        open_runs([sweep("s", {0: [0, 0, 1], 1: [1, 1, 1]}), compared("c", sampling_record=own)])


def test_the_same_run_twice(sweep):
    rights = {0: [0, 0, 1], 1: [1, 1, 1]}
    one, copy = sweep("one", rights), sweep("copy", rights)
    with pytest.raises(MullError, match="one is given twice"):
        open_runs([one, one.parent / "copy" / ".." / "one"])
    with pytest.raises(MullError, match=r"one and .*copy hold the same plan\. Leave one of them out"):
        open_runs([one, copy])
    with pytest.raises(MullError, match="are both a study of λ on sums"):
        open_runs([one, sweep("seed", rights, seed=1)])


def test_what_is_no_study(sweep, run, answers, tmp_path):
    with pytest.raises(MullError, match="holds no run"):
        open_runs([tmp_path])
    with pytest.raises(MullError, match="no run is named"):
        open_runs([])
    with pytest.raises(MullError, match="holds no response yet"):
        open_runs([run(tmp_path / "empty", grid(0, 1), [])])
    odd = [Setting.of(Coefficients.only(0.8, layers=(0, 1), modules=["ffn"]), "odd")]
    with pytest.raises(MullError, match=r"none of the paper's studies \(its settings: odd\). Leave it out"):
        open_runs([run(tmp_path / "odd", odd, answers("odd", None, [1, 1, 1], 2))])
    two = [Setting.of(Coefficients.only(lam, layers=(0, 1)), f"at {lam}") for lam in (0.5, 0.8)]
    samples = [s for x in two for s in answers(x.label, None, [1, 1, 1], 2)]
    with pytest.raises(MullError, match="none of the paper's studies"):
        open_runs([run(tmp_path / "two", two, samples)])


def test_an_incomplete_run_is_called_so(run, answers, tmp_path):
    (found,) = open_runs([run(tmp_path / "half", grid(0, 1), answers("0", 0.0, [1, 1, 1], 2))]).runs
    assert not found.complete and found.name == "half (incomplete: 50 %)"


def test_a_setting_of_two_runs_comes_from_the_one_with_more_of_it(run, answers, compared, tmp_path):
    samples = answers("0", 0.0, [0, 0, 1], 2) + answers("0.5", 0.5, [0], 2)[:1]
    swept = run(tmp_path / "s", grid(0, 0.5), samples)
    for folders in ([swept, compared("c")], [compared("d"), swept]):
        studies = open_runs(folders)
        (arena,) = studies.arenas
        found = {m.setting: m for m in arena.metrics}
        assert found["0.5"].samples == 6 and found["0.5"].mean_at_k.value == 1
        assert arena.complete and not all(run.complete for run in studies.runs)


def test_one_k_for_all_settings_of_a_comparison(run, answers, tmp_path):
    samples = answers("0", 0.0, [1, 1, 1], 4) + answers("1", 1.0, [1, 1, 1], 4)[:-1]
    opened = open_runs([run(tmp_path / "r", grid(0, 1), samples, k=4)])
    (arena,) = opened.arenas
    assert not arena.complete and {m.k for m in arena.metrics} == {3}
    assert {m.k for m in opened.runs[0].metrics.values()} == {3}
    assert arena.scored["0"]["q000"].pass_at_k == arena.scored["1"]["q000"].pass_at_k == 0.75
