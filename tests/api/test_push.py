"""`Run.push`: a measured λ becomes a checkpoint on the hub, by the real client, with the run's figures on its card."""

import base64
import json
import shutil

import pytest
from huggingface_hub import ModelCard

import mull
from mull.tiny import checkpoint_folder

from ..hub import serving


@pytest.fixture
def hub(monkeypatch):
    with serving(monkeypatch) as found:
        yield found


@pytest.fixture
def own(run, tmp_path):
    """A copy of the run, whose folder may get a checkpoint."""
    return mull.Run.open(shutil.copytree(run.folder, tmp_path / "run"))


def sent(hub):
    """Name → content of what the hub was given."""
    commit = next(body for _, path, body in hub.asked if "/commit/" in path)
    lines = [json.loads(line)["value"] for line in commit.splitlines()]
    return {line["path"]: base64.b64decode(line["content"]) for line in lines[1:]}


def test_the_hub_gets_the_merge_with_the_runs_figures(own, hub, pair, tmp_path):
    done = own.push("me/tiny-{lambda}", 0.6, private=True, quiet=True)
    assert done.url and done.url.endswith("/me/mixed") and done.folder == own.folder / "model-0.6"
    files = sent(hub)
    assert {name: len(content) for name, content in files.items()} == done.files
    merged = mull.merge(pair, 0.6, out=tmp_path / "merged", quiet=True)
    assert files["model.safetensors"] == (merged / "model.safetensors").read_bytes()
    created = next(json.loads(body) for _, path, body in hub.asked if path == "/api/repos/create")
    assert created["name"] == "tiny-0.6"
    results = {each.metric_type: each.metric_value for each in ModelCard(files["README.md"].decode()).data.eval_results}
    row = own.metrics.filter(setting="0.6").row(0, named=True)
    assert results["accuracy"] == pytest.approx(row["mean_at_k"], abs=1e-6)
    assert results["tokens per response"] == pytest.approx(row["tokens"], abs=1e-6)


def test_a_merge_that_is_there_is_taken_and_its_card_completed(own, pair, hub, tmp_path):
    out = mull.merge(pair, 0.6, out=tmp_path / "merged", quiet=True)
    assert "model-index" not in (out / "README.md").read_text()
    before = (out / "model.safetensors").stat().st_mtime_ns
    assert own.push("me/tiny", 0.2 * 3, out=out, dry_run=True, quiet=True).url is None
    assert (out / "model.safetensors").stat().st_mtime_ns == before
    assert ModelCard.load(out / "README.md").data.model_name == "tiny"
    assert not hub.asked


def test_merge_puts_the_figures_of_a_run_on_the_card(own, pair, tmp_path):
    made = mull.merge(pair, [0, 0.6], out=tmp_path / "at-{lambda}", run=own.folder, quiet=True)
    cards = [ModelCard.load(folder / "README.md").data for folder in made]
    assert [card.model_name for card in cards] == ["at-0", "at-0.6"]
    assert cards[0].eval_results != cards[1].eval_results
    with pytest.raises(mull.MullError, match="was not measured"):
        mull.merge(pair, 0.5, out=tmp_path / "no", run=own.folder, quiet=True)
    assert not (tmp_path / "no").exists()


def test_an_end_that_has_moved_is_given_and_another_one_refused(own, tmp_path):
    moved = shutil.copytree(checkpoint_folder("instruct"), tmp_path / "moved")
    assert own.push("me/tiny", 0.6, instruct=moved, dry_run=True, quiet=True).files
    with pytest.raises(mull.MullError, match="not the Instruct checkpoint of the run"):
        own.push("me/tiny", 0.6, instruct=checkpoint_folder("base"), out=tmp_path / "out", dry_run=True, quiet=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("to", "lam", "token", "said"),
    [
        ("tiny", 0.6, "hf_secret", "Write USER/NAME"),
        ("me/tiny", 0.5, "hf_secret", "λ = 0.5 was not measured .* It has 0, 0.6, 1"),
        ("me/tiny", 0.6, "", "no token"),
    ],
)
def test_refusals_come_before_the_merge(own, hub, monkeypatch, tmp_path, to, lam, token, said):
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    with pytest.raises(mull.MullError, match=said):
        own.push(to, lam, quiet=True)
    assert not (own.folder / "model-0.6").exists() and not hub.asked


def test_a_folder_with_something_else_is_left_alone(own, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "README.md").write_text("mine")
    with pytest.raises(mull.MullError, match="something else than this merge"):
        own.push("me/tiny", 0.6, out=tmp_path / "notes", dry_run=True, quiet=True)
    assert (tmp_path / "notes" / "README.md").read_text() == "mine"


def test_half_a_checkpoint_is_not_sent(own, tmp_path):
    """The manifest alone does not make a checkpoint: its shards must be there."""
    done = own.push("me/tiny", 0.6, dry_run=True, quiet=True)
    (done.folder / "model.safetensors").write_bytes(b"half")
    with pytest.raises(mull.MullError, match="something else than this merge"):
        own.push("me/tiny", 0.6, dry_run=True, quiet=True)
