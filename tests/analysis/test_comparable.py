"""What of an unfinished run may be compared."""

from mull.analysis.comparable import comparable, unthinking_end
from mull.analysis.metrics import metrics


def run(sample, counts):
    """Samples of {λ: samples of question 0, of question 1 …}."""
    return [
        sample(f"q{q}", lam, index=i) for lam, own in counts.items() for q, many in enumerate(own) for i in range(many)
    ]


def kept(found):
    return {(s.setting, s.question) for s in found.samples}


def test_a_finished_run_is_kept_whole(sample):
    samples = run(sample, {0.0: (2, 2, 2, 2), 1.0: (2, 2, 2, 2)})
    found = comparable(samples, 4, 2)
    assert found.samples == samples and not found.left_out and found.questions == 4


def test_a_stopped_sweep_loses_the_lambda_it_broke_off_in_however_even_it_looks(sample):
    """What is missing are the long responses."""
    for broken in ((2, 2, 1, 0), (1, 1, 1, 1), (2, 2, 2, 0)):
        found = comparable(run(sample, {0.0: (2, 2, 2, 2), 0.5: broken}), 4, 2)
        assert found.left_out == ["0.5"] and found.questions == 4 and {s.setting for s in found.samples} == {"0"}
    found = comparable(run(sample, {0.0: (1, 1, 1, 1), 0.5: (1, 1, 1, 0)}), 4, 1)
    assert found.left_out == ["0.5"]


def test_a_race_is_compared_on_the_questions_all_were_asked(sample):
    samples = run(sample, {0.0: (1, 1, 1, 0), 0.5: (4, 4, 4, 4), 1.0: (2, 2, 2, 0)})
    found = comparable(samples, 4, 4, under_way=())
    assert not found.left_out and found.questions == 3
    assert kept(found) == {(lam, f"q{q}") for lam in ("0", "0.5", "1") for q in range(3)}
    assert comparable(samples, 4, 4).left_out == ["0", "1"]


def test_the_step_that_a_race_was_stopped_in_does_not_count(sample):
    samples = run(sample, {0.0: (1, 1, 1, 0), 0.5: (4, 4, 4, 4)})
    found = comparable(samples, 4, 4, under_way=("0",))
    assert found.left_out == ["0"] and found.questions == 4


def test_a_lambda_with_few_questions_does_not_take_the_others_questions_away(sample):
    found = comparable(run(sample, {0.0: (2, 2, 2, 2), 0.5: (2, 0, 0, 0)}), 4, 2, under_way=())
    assert found.left_out == ["0.5"] and found.questions == 4


def test_where_nothing_is_comparable_everything_is_kept_and_named(sample):
    samples = run(sample, {0.0: (2, 1, 0, 0)})
    found = comparable(samples, 4, 2)
    assert found.samples == samples and found.left_out == ["0"] and found.questions == 2
    apart = run(sample, {0.0: (1, 1, 0, 0), 1.0: (0, 0, 1, 1)})
    assert comparable(apart, 4, 2, under_way=()) == (apart, ["0", "1"], 4)
    assert comparable([], 4, 2) == ([], [], 0)


def test_an_end_that_does_not_think_is_warned_of(sample):
    def said(kind, lam=1.0, closed=0):
        kinds = [kind] * (20 - closed) + ["closed"] * closed
        return unthinking_end(metrics([sample(f"q{i}", lam, thinking=each) for i, each in enumerate(kinds)]))

    assert "Think #R is 0 % at λ = 1" in said("none") and "--think-tags" in said("none")
    assert "Think #R is 5 %" in said("pseudo-closed", closed=1) and said("none", closed=2) == ""
    assert "--max-tokens" in said("unclosed") and "--think-tags" not in said("unclosed")
    assert said("none", lam=0.0) == "", "Instruct need not think"
