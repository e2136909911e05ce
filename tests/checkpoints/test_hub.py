"""Uploading, against a hub of our own on this machine: what it is asked, and what is said when it refuses."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest

from mull.checkpoints.hub import check_login, check_repo_id, hub_client, push
from mull.errors import MullError

from ..hub import Hub, serving


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    with serving(monkeypatch) as found:
        yield found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "README.md").write_text("---\ntags:\n- mull\n---\n# mixed\n")
    return tmp_path


def test_the_whole_folder_is_uploaded(hub: type[Hub], folder: Path) -> None:
    push(folder, "me/mixed", private=True, message="Merge with mull")
    created = next(json.loads(body) for _, path, body in hub.asked if path == "/api/repos/create")
    assert created["name"] == "mixed" and created["organization"] == "me"
    assert created.get("private") is True or created.get("visibility") == "private"
    commit = next(body for _, path, body in hub.asked if "/commit/" in path)
    lines = [json.loads(line) for line in commit.splitlines()]
    assert lines[0]["value"]["summary"] == "Merge with mull"
    assert {line["value"]["path"] for line in lines[1:]} == {"config.json", "README.md"}


def test_a_refusal_is_one_sentence_with_the_remedy(hub: type[Hub], folder: Path) -> None:
    hub.status = 403
    with pytest.raises(MullError, match="is complete, but the hub did not take it as me/mixed") as caught:
        push(folder, "me/mixed", private=False, message="x")
    assert f"hf upload me/mixed {folder}" in str(caught.value)
    assert "hf_secret" not in str(caught.value)


def test_no_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    api = huggingface_hub.hf_api.HfApi(endpoint="http://127.0.0.1:9", token="hf_secret")
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: api)
    with pytest.raises(MullError, match="the hub did not take it"):
        push(folder, "me/mixed", private=False, message="x")


@pytest.mark.parametrize("name", ["mixed", "a/b/c", "me/mi xed", "me/", ""])
def test_names_are_checked_before_any_work(name: str) -> None:
    with pytest.raises(MullError, match="Write USER/NAME"):
        check_repo_id(name)


def test_retries_are_one_line_in_own_words(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client logs two lines for each try, with addresses; of all of them one is told."""
    nobody = "http://127.0.0.1:9/model"
    caplog.set_level("WARNING", logger="mull")
    monkeypatch.setattr(logging.getLogger("mull"), "handlers", [])  # those of the command line
    with (
        pytest.raises(MullError, match=r"^no answer \(.*refused\)$"),
        hub_client(lambda reason: MullError(f"no answer ({reason})")),
    ):
        huggingface_hub.utils.http_backoff("GET", nobody, max_retries=2, base_wait_time=0.01)
    told = [record.getMessage() for record in caplog.records if record.name.startswith("mull")]
    assert told == ["the hub does not answer: trying again, for half a minute at most"]
    assert capfd.readouterr().err == ""  # the command line shows it, a library does not


def test_without_a_token_nothing_is_begun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    with pytest.raises(MullError, match=r"no token .* `hf auth login`, or set HF_TOKEN"):
        check_login()
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    check_login()
