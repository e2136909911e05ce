"""Wrong input to every verb: exit code 2, and one line that says what was wrong and what to do."""

import pytest

from mull.tiny import checkpoint_folder

from ...running import mull

ENDS = [f"--{side}={checkpoint_folder(side)}" for side in ("instruct", "thinking")]
MERGE = ["merge", *ENDS, "-o", "out"]
SWEEP = ["sweep", *ENDS, "--run", "run"]
SERVERS = ["sweep", "--endpoint", "http://127.0.0.1:9/v1", "--model-map", "m@{lambda}", "--run", "run"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with what may be given by mistake, and a run."""
    made = tmp_path_factory.mktemp("wrong")
    (made / "empty").write_text("")
    (made / "folder").mkdir()
    (made / "bytes").write_bytes(bytes(range(128, 256)))
    (made / "wide.csv").write_bytes("lambda,benchmark,think_ratio\n".encode("utf-16"))
    (made / "french.txt").write_bytes("Où ?\n".encode("latin-1"))
    (made / "one.jsonl").write_text('{"question": "1+1?", "answer": "2"}\n')
    sweep = ["sweep", *ENDS, "--questions", "2", "-k", "1", "--max-tokens", "8", "--lambdas", "0,1"]
    assert mull(*sweep, "--run", made / "swept").returncode == 0
    return made


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["inspect", "", "x"], "An argument is empty. Give a path"),
        (["report", ""], "An argument is empty. Give a path"),
        (["report", "swept", "--parquet="], "--parquet is empty. Give a path; a shell variable may not be set."),
        (["sweep", *ENDS, "--run", ""], "--run is empty. Give a path"),
        (
            ["sweep", "--instruct", "", *ENDS[1:], "--run", "run"],
            "an empty name is no model. Give a folder or a hub id",
        ),
        ([*SWEEP, "--lambdas", ""], "cannot read the lambdas ''. Write 0:1:0.1"),
        (
            [*SWEEP, "--temperature", "nan"],
            "--temperature must be 0 (greedy) or a positive number, got nan. The paper's",
        ),
        ([*SWEEP, "--top-p", "2"], "--top-p must lie in (0, 1], got 2. The paper's are"),
        ([*SWEEP, "--top-k=-1"], "--top-k must be 0 (no limit) or positive, got -1. The paper's are"),
        ([*SWEEP, "--modules", "mlp"], "unknown module kind 'mlp'. Did you mean 'ffn'?"),
        ([*SWEEP, "--layers", "0-99"], "the model, which has 6 layers. Layers count from 0 to 5"),
        ([*SWEEP, "--benchmark", "folder"], "unknown benchmark 'folder'. Known: aime24,"),
        ([*SWEEP, "--benchmark", "empty"], "empty is no data file. Give a .jsonl, .csv or .parquet file"),
        ([*SWEEP, "--benchmark", "one.jsonl", "--grader", "exact", "--questions", "2"], "has 1 question, not 2"),
        (
            ["sweep", *ENDS, "--run", "empty/run"],
            "cannot make the run folder empty/run: Not a directory. Choose another",
        ),
        ([*SERVERS, "--donor", "instruct"], "--donor cannot be had from servers. Leave it out, or --endpoint"),
        (
            ["sweep", "--endpoint-map", "none.toml", "--run", "run"],
            "cannot read none.toml: No such file or directory. Give",
        ),
        ([*MERGE, "--coefficients", "folder"], "cannot read folder: Is a directory. Give the path of a TOML file"),
        ([*MERGE, "--coefficients", "bytes"], "bytes is no TOML file: it is not UTF-8 text. Save it as UTF-8"),
        ([*MERGE, "--method", "average"], "unknown method 'average'. Did you mean 'mi'?"),
        (
            ["merge", *(["--model", str(checkpoint_folder("base"))] * 3), "-o", "out"],
            "of more than two models give each",
        ),
        (["extract-delta", *ENDS, "--rank", "0", "-o", "out"], "rank must be at least 1, got 0. 32 is the default"),
        (
            ["extract-delta", *ENDS, "--prompts", "none", "-o", "out"],
            "the prompts none: No such file or directory. Give",
        ),
        (["extract-delta", *ENDS, "--prompts", "french.txt", "-o", "out"], "byte 0xf9 in line 1 may be WINDOWS-1252"),
        (["stages", "wide.csv"], "wide.csv is not UTF-8 text: it begins with the mark of UTF-16. Save it as UTF-8"),
        (["stages", "folder"], "cannot read folder: Is a directory. Give the path of a CSV table"),
        (["report", "empty"], "empty holds no run (no run.sqlite). Give the folder of `mull sweep --run`"),
        (["regrade", "swept", "--grader", ""], "unknown grader ''. Known: exact, ifeval"),
        (["regrade", "swept", "--grader", "numeric"], "unknown grader 'numeric'. Did you mean 'integer'?"),
        (
            ["choose", "swept", "--budget", "inf"],
            "the budget must be positive and finite, got inf. Tokens per response, as in",
        ),
        (["headroom", "swept", "swept"], "the run swept is given twice. Name it once"),
    ],
)
def test_what_was_wrong_and_what_to_do(folder, monkeypatch, arguments, said):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "200")
    before = sorted(path.name for path in folder.iterdir())
    done = mull(*arguments)
    assert done.returncode == 2 and said in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and sum(line.startswith("mull: ") for line in done.stderr.splitlines()) <= 1
    assert sorted(path.name for path in folder.iterdir()) == before
