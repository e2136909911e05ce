"""`mull sweep` from servers: curves, going on after a death or Ctrl-C, and what may not go on."""

import json
import signal

import pytest
from typer.testing import CliRunner

from mull.cli.main import app
from mull.runs.store import RunStore
from mull.tiny import checkpoint_folder

from ..running import mull, started, wait_for_responses

ENDS = ["--instruct", str(checkpoint_folder("instruct")), "--thinking", str(checkpoint_folder("thinking"))]
SIZE = ("--lambdas", "0,1", "--questions", "14", "-k", "2", "--max-tokens", "600")


def command(run, url, *options):
    where = ["--endpoint", url, "--model-map", "name@{lambda}"] if url else []
    return ["sweep", *where, "--run", run, *options]


def sweep(run, url, *options, **environment):
    return mull(*command(run, url, *options), env=environment)


def texts(run):
    with RunStore.open(run) as store:
        return {(s.setting, s.question, s.index): s.text for s in store.samples()}


def test_a_remote_sweep_of_the_built_in_pair_is_the_local_one(serve, tmp_path):
    """Greedily, so that seeds do not matter."""
    options = (*SIZE, "--temperature", "0")
    done = sweep(tmp_path / "remote", serve(pair=True), *options, "--concurrency", "28")
    assert done.returncode == 0, done.stderr
    assert "λ = 1: 28 responses" in done.stderr and "mull report" in done.stdout
    assert sweep(tmp_path / "local", "", *ENDS, *options).returncode == 0
    with RunStore.open(tmp_path / "remote") as remote, RunStore.open(tmp_path / "local") as local:
        ours, theirs = remote.samples(), local.samples()
        assert remote.plan["models"] == {"0": {"model": "name@0"}, "1": {"model": "name@1"}}
        assert "instruct" not in remote.plan and remote.plan["engine"] == "remote"
        assert set(remote.provenance["endpoints"]) == {"0", "1"}
    for a, b in zip(ours, theirs, strict=True):
        assert (a.setting, a.question, a.index, a.seed, a.lam) == (b.setting, b.question, b.index, b.seed, b.lam)
        assert (a.text, a.tokens, a.finish, a.thinking, a.answer, a.correct) == (
            b.text, b.tokens, b.finish, b.thinking, b.answer, b.correct,
        )  # fmt: skip
    assert mull("report", tmp_path / "remote").returncode == 0
    assert "name@0 → name@1" in (tmp_path / "remote" / "report" / "report.html").read_text()


def test_a_server_that_dies_midway_and_comes_back(serve, tmp_path):
    run, key = tmp_path / "run", "sk-very-secret"
    faults = {"429": 0.1, "500": 0.1, "break": 0.1}
    url = serve(die_after=20, faults=faults, key=key)
    done = sweep(run, url, *SIZE, "--retries", "1", "--concurrency", "4", "--lambdas", "0,0.5,1", MULL_API_KEY=key)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "got no response" in done.stderr and "the same command asks for the rest" in done.stderr
    kept = texts(run)
    assert 0 < len(kept) <= 20
    again = sweep(run, serve(key=key, faults=faults), *SIZE, "--lambdas", "0,0.5,1", MULL_API_KEY=key)
    assert again.returncode == 0, again.stderr
    assert f"going on from {len(kept)} of 84" in again.stderr
    found = texts(run)
    assert len(found) == 84 and kept.items() <= found.items()
    for path in run.iterdir():
        assert key.encode() not in path.read_bytes()
    assert key not in done.stderr + again.stderr + again.stdout


def test_ctrl_c_leaves_what_came(serve, tmp_path):
    """It does not wait for what is under way, which would take an hour."""
    run, url = tmp_path / "run", serve(hang_after=12, hang=3600)
    options = ("--concurrency", "2", "--timeout", "3600")
    process = started(*command(run, url, *SIZE, *options))
    wait_for_responses(run, 6, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130 and "Traceback" not in errors
    kept = texts(run)
    assert 5 < len(kept) < 56
    assert sweep(run, serve(), *SIZE).returncode == 0
    assert len(texts(run)) == 56


def test_a_local_run_is_not_continued_from_servers_nor_the_other_way(serve, tmp_path):
    url = serve()
    assert sweep(tmp_path / "remote", url, *SIZE).returncode == 0
    other = sweep(tmp_path / "remote", "", *ENDS, *SIZE)
    assert other.returncode == 2
    assert "answered by endpoints (remote) → checkpoints (local/float32/cpu)" in other.stderr
    renamed = sweep(tmp_path / "remote", "", "--endpoint", url, "--model-map", "other@{lambda}", *SIZE)
    assert renamed.returncode == 2 and "models.0.model: name@0 → other@0" in renamed.stderr
    moved = sweep(tmp_path / "remote", serve(), *SIZE)  # another port: the same run
    assert moved.returncode == 0 and "is complete" in moved.stderr


def test_an_endpoint_map_gives_the_lambdas(serve, tmp_path):
    first, second = serve(), serve()
    rows = (("0", first, "a@0"), ("0.4", first, "a@0.4"), ("1", second, "b@1"))
    text = "".join(f'[[endpoint]]\nlambda = {lam}\nurl = "{url}"\nmodel = "{name}"\n' for lam, url, name in rows)
    (tmp_path / "map.toml").write_text(text)
    options = ("--endpoint-map", str(tmp_path / "map.toml"), "--questions", "7", "-k", "1")
    done = sweep(tmp_path / "run", "", *options)
    assert done.returncode == 0, done.stderr
    with RunStore.open(tmp_path / "run") as store:
        assert {s.lam for s in store.samples()} == {0, 0.4, 1}
        assert store.provenance["endpoints"]["1"] == second
    done = sweep(tmp_path / "some", "", *options, "--lambdas", "0.4")
    assert done.returncode == 0 and len(texts(tmp_path / "some")) == 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--endpoint", "http://127.0.0.1:9/v1"], "--model-map is missing"),
        (["--model-map", "name@{lambda}"], "--endpoint is missing"),
        (["--endpoint-map", "x.toml", "--endpoint", "http://a"], "--endpoint-map holds URLs and models already"),
        (["--endpoint-map", "missing.toml"], "missing.toml"),
        (["--endpoint", "http://127.0.0.1:9/v1", "--model-map", "m"], "would ask the same model"),
        (["--endpoint", "http://127.0.0.1:9/v1", "--model-map", "m@{lambda}"], "no server answers at"),
        (["--endpoint", "http://a", "--model-map", "m@{lambda}", "--layers", "1-2"], "--layers cannot be had"),
        (["--endpoint", "http://a", "--model-map", "m@{lambda}", *ENDS], "--instruct, --thinking cannot be had"),
        (["--endpoint", "http://a", "--model-map", "m@{lambda}", "--api-key-env", "NOPE"], "NOPE is not set"),
        (["--endpoint", "http://a", "--model-map", "m@{lambda}", "--omit", "tempra"], "cannot leave out 'tempra'"),
        (["--endpoint", "http://a", "--model-map", "m@{lambda}", "--concurrency", "0"], "--concurrency"),
        (
            ["--endpoint", "http://a", "--model-map", "m@{lambda}", "--omit", "max_tokens", "--max-completion-tokens"],
            "leaves the limit out under every name",
        ),
        ([*ENDS, "--stream"], "--stream is for servers"),
        ([*ENDS, "--max-completion-tokens"], "--max-completion-tokens is for servers"),
        (ENDS[:2], "--thinking is missing"),
        ([], "--instruct is missing"),
    ],
)
def test_wrong_input_is_one_sentence_and_leaves_nothing(tmp_path, options, message):
    done = CliRunner().invoke(app, ["sweep", *options, "--run", str(tmp_path / "run")])
    assert done.exit_code == 2
    assert message in done.output and "Traceback" not in done.output
    assert not (tmp_path / "run").exists()


def test_an_attempt_without_any_response_does_not_bind(serve, tmp_path):
    run, url = tmp_path / "run", serve(refused=["top_k"])
    refused = sweep(run, url, *SIZE)
    assert not run.exists()
    assert refused.returncode == 2 and "HTTP 400: Unrecognized request argument supplied: top_k" in refused.stderr
    done = sweep(run, url, *SIZE, "--omit", "top_k")
    assert done.returncode == 0, done.stderr
    with RunStore.open(run) as store:
        assert store.plan["omitted"] == ["top_k"] and store.count() == 56


def test_a_server_that_only_streams_and_has_another_name_for_the_limit(serve, tmp_path):
    log = tmp_path / "log"
    url = serve(only_streams=True, refused=["max_tokens"], log=str(log), split="reasoning")
    for options, message in (
        ((), "supplied: max_tokens) (--omit max_tokens leaves it out)"),
        (("--max-completion-tokens",), "(--stream asks for a stream)"),
    ):
        refused = sweep(tmp_path / "run", url, *SIZE, *options)
        assert refused.returncode == 2 and message in refused.stderr
    done = sweep(tmp_path / "run", url, *SIZE, "--stream", "--max-completion-tokens")
    assert done.returncode == 0, done.stderr
    assert sweep(tmp_path / "plain", serve(), *SIZE).returncode == 0
    assert texts(tmp_path / "run") == texts(tmp_path / "plain")
    assert json.loads(log.read_text().splitlines()[-1])["max_completion_tokens"] == 600
    with RunStore.open(tmp_path / "run") as one, RunStore.open(tmp_path / "plain") as other:
        assert one.plan == other.plan  # how it is asked moves no sample


def test_without_a_limit_the_plan_says_so(serve, tmp_path):
    log = tmp_path / "log"
    done = sweep(tmp_path / "run", serve(refused=["max_tokens"], log=str(log)), *SIZE, "--omit", "max_tokens")
    assert done.returncode == 0, done.stderr
    assert not any(key.startswith("max_") for line in log.read_text().splitlines() for key in json.loads(line))
    with RunStore.open(tmp_path / "run") as store:
        assert store.plan["omitted"] == ["max_tokens"]


def test_sampling_and_token_limit_reach_the_server(serve, tmp_path):
    log = tmp_path / "log"
    options = ("--temperature", "0.7", "--top-p", "0.8", "--top-k", "0", "--omit", "seed")
    done = sweep(tmp_path / "run", serve(log=str(log)), *SIZE, *options)
    assert done.returncode == 0, done.stderr
    sent = [json.loads(line) for line in log.read_text().splitlines() if json.loads(line)["max_tokens"] > 1]
    assert {(e["temperature"], e["top_p"], e["top_k"], e["max_tokens"]) for e in sent} == {(0.7, 0.8, -1, 600)}
    assert not any("seed" in entry for entry in sent)


def test_a_race_among_models_on_a_server_is_the_local_one(serve, tmp_path):
    """Greedily, so that seeds do not matter. It goes on from its record without asking the server again."""
    asked = ("--lambdas", "0,0.4,0.6,1", "--questions", "14", "-k", "2", "--budget", "90", "--temperature", "0")
    url = serve(pair=True)
    where = ("--endpoint", url, "--model-map", "name@{lambda}", "--concurrency", "28")

    def choose(*options):
        return mull("choose", *options, "--json")

    remote = choose(*where, *asked, "--max-tokens", "600", "--run", str(tmp_path / "remote"))
    assert remote.returncode == 0, remote.stderr
    local = choose(*ENDS, *asked, "--max-tokens", "600", "--run", str(tmp_path / "local"))
    assert local.returncode == 0, local.stderr
    found, wanted = json.loads(remote.stdout), json.loads(local.stdout)
    assert found["pick"] == wanted["pick"] and found["responses"] == wanted["responses"]
    again = choose(*where, *asked, "--max-tokens", "600", "--run", str(tmp_path / "remote"))
    assert json.loads(again.stdout) == found and "asking the servers" not in again.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--endpoint", "http://h/v1", "--model-map", "m@{lambda}"], "--run is missing"),
        (["--endpoint", "http://h/v1", "--run", "r"], "--model-map is missing"),
        (["--endpoint", "http://h/v1", "--model-map", "m@{lambda}", "--run", "r", *ENDS], "cannot be had from servers"),
        (["x", "--endpoint", "http://h/v1"], "--endpoint asks for a new one"),
    ],
)
def test_choosing_from_servers_with_options_that_do_not_fit(options, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["choose", "--budget", "90", *options])
    assert result.exit_code == 2 and said in result.output
    assert not any(tmp_path.iterdir())


def test_a_race_that_never_began_leaves_no_folder(tmp_path):
    server = ("--endpoint", "http://127.0.0.1:9/v1", "--model-map", "m@{lambda}")
    done = mull("choose", "--budget", "90", "--questions", "14", *server, "--run", tmp_path / "run")
    assert done.returncode == 2 and "no server answers" in done.stderr
    assert not (tmp_path / "run").exists()
