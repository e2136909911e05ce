"""`--config study.toml`: the same as flags, overruled by them, refused where flags would be, kept by the run."""

import pytest

from mull.runs.store import RunStore
from mull.tiny import checkpoint_folder
from tests.running import mull

PAIR = f"instruct = '{checkpoint_folder('instruct')}'\nthinking = '{checkpoint_folder('thinking')}'\n"
SMALL = "questions = 2\nk = 1\nmax-tokens = 8\n"


@pytest.fixture
def study(tmp_path):
    def write(text):
        (tmp_path / "study.toml").write_text(text)
        return tmp_path / "study.toml"

    return write


def test_a_file_says_it_all_and_flags_overrule_it(study, tmp_path):
    text = f"{PAIR}{SMALL}run = '{tmp_path / 'run'}'\nlambdas = [0, 1]\ntop_p = 0.9\nallow = ['rope']\njson = true\n"
    config = study(text)
    done = mull("sweep", "--config", config, "--lambdas", "0")
    assert done.returncode == 0 and done.stdout.startswith("{"), done.stderr
    with RunStore.open(tmp_path / "run") as store:
        assert list(store.plan["settings"]) == ["0"] and store.plan["sampling"]["top_p"] == 0.9
        assert store.count() == 2 and store.plan["sampling"]["max_tokens"] == 8
    assert (tmp_path / "run" / "study.toml").read_text() == text
    assert mull("sweep", "--config", tmp_path / "run" / "study.toml").returncode == 0  # the copy is a study, too
    with RunStore.open(tmp_path / "run") as store:
        assert list(store.plan["settings"]) == ["0", "1"]
    study(text + "seed = 3\n")
    refused = mull("sweep", "--config", config)
    assert refused.returncode == 2 and "seed: 0 → 3" in refused.stderr
    assert (tmp_path / "run" / "study.toml").read_text() == text


def test_a_dry_run_keeps_nothing(study, tmp_path):
    done = mull(
        "compare", "--config", study(f"{PAIR}{SMALL}lambdas = '0,1'\ndry-run = true"), "--run", tmp_path / "run"
    )
    assert done.returncode == 0 and not (tmp_path / "run").exists()
    assert "of them on record" in done.stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tempreature = 1", "unknown key 'tempreature'. Did you mean 'temperature'?"),
        ("config = 'x'", "unknown key 'config'"),
        ("[sampling]\nk = 8", "unknown key 'sampling'"),
        ("k = 'many'", "Invalid value for '-k'"),
        ("k = 0", "Invalid value for '-k'"),
        ("k = true", "k must not be true or false"),
        ("k = [1, 2]", "k must be one value"),
        ("stream = 1", "stream must be true or false"),
        ("top-p = 0.9\ntop_p = 0.8", "top_p is there twice"),
        ("run = ''", "run is empty"),
        ("k = ", "is no TOML file"),
        ("concurrency = 4", "--concurrency is for servers, and none is named"),
    ],
)
def test_what_is_refused(study, tmp_path, text, said):
    done = mull("sweep", "--config", study(text), *([] if text.startswith("run") else ["--run", tmp_path / "run"]))
    words = " ".join(done.stderr.replace("│", " ").split())
    assert done.returncode == 2 and said in words, words
    assert "Traceback" not in done.stderr and not (tmp_path / "run").exists()


def test_a_file_that_is_not_there(tmp_path):
    done = mull("sweep", "--config", tmp_path / "none.toml", "--run", tmp_path / "run")
    assert done.returncode == 2 and "No such file" in " ".join(done.stderr.replace("│", " ").split())


def test_a_study_belongs_to_its_verb(study, tmp_path):
    """Options of another study are refused by name, as those given by flags are."""
    config = study(f"{PAIR}temperatures = [0.6, 0.7]")
    done = mull("ablate", "layers", "--config", config, "--run", tmp_path / "run")
    assert done.returncode == 2 and "--temperatures belongs to mull ablate decoding" in done.stderr
    done = mull("choose", tmp_path, "--budget", 60, "--config", study("k = 2"))
    assert done.returncode == 2 and "asks for a new one" in done.stderr
