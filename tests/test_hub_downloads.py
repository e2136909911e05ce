"""Checkpoints and benchmarks from the hub, by its real client, from a server of our own that speaks its protocol."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mull.benchmarks.catalog import SPECS
from mull.tiny import checkpoint_folder

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SECRET = "A question that must not stay on this disk"


class Hub(BaseHTTPRequestHandler):
    """Answers what the client asks when it downloads: a model's file list, a file's head and its content."""

    protocol_version = "HTTP/1.1"
    folders: ClassVar[dict[str, Path]] = {}
    """By repository as it stands in an address, datasets with their prefix."""
    asked: ClassVar[list[str]] = []

    def _send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self) -> None:
        self.asked.append(self.path)
        path = self.path.split("?")[0]
        for kind in ("/revision/", "/tree/"):
            repository, found, _ = path.removeprefix("/api/models/").partition(kind)
            if found and repository in self.folders:
                folder = self.folders[repository]
                files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
                tree = [
                    {"type": "file", "path": name, "size": file.stat().st_size, "oid": "0" * 40}
                    for name, file in files.items()
                ]
                model = {"id": repository, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
                answer: Any = tree if kind == "/tree/" else model
                return self._send(200, json.dumps(answer).encode(), Content_Type="application/json")
        if "/resolve/" in path:
            repository, _, rest = path.removeprefix("/").partition("/resolve/")
            revision, _, name = rest.partition("/")
            file = self.folders.get(repository, Path("none")) / name
            if file.is_file():
                content = file.read_bytes()
                tag = f'"{hashlib.sha256(content).hexdigest()}"'
                return self._send(200, content, ETag=tag, X_Repo_Commit=revision if len(revision) == 40 else COMMIT)
        return self._send(404, b"{}", X_Error_Code="RepoNotFound", Content_Type="application/json")

    do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a process for which this is the hub."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Hub.asked.clear()
    Hub.folders.clear()
    for side in ("instruct", "thinking"):
        Hub.folders[f"me/{side}"] = checkpoint_folder(side)
    for name, rows in (
        ("aime25", [{"question": f"What is {n}?", "answer": str(n)} for n in (1, 2)]),
        ("math500", [{"problem": "What is 3?", "answer": "3", "subject": "Algebra", "level": 1, "unique_id": "a"}]),
    ):
        source = SPECS[name].source
        folder = Hub.folders[f"datasets/{source.repo}"] = tmp_path / name
        folder.mkdir()
        for file in source.files:
            (folder / file).write_text("\n".join(map(json.dumps, rows)) + "\n")
    gated = Hub.folders[f"datasets/{SPECS['gpqa'].source.repo}"] = tmp_path / "gpqa"
    gated.mkdir()
    head = "Question,Correct Answer,Incorrect Answer 1,Incorrect Answer 2,Incorrect Answer 3,High-level domain\n"
    (gated / "gpqa_diamond.csv").write_text(head + f"{SECRET},right,wrong1,wrong2,wrong3,Physics\n")
    yield {
        **os.environ,
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_OFFLINE": "0",
    }
    server.shutdown()


def python(hub: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], env=hub, capture_output=True, text=True, timeout=300)


def test_a_pair_by_its_hub_ids(hub: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "mixed"
    ends = ("--instruct", "me/instruct", "--thinking", "me/thinking")
    done = python(hub, "-m", "mull.cli.main", "merge", *ends, "--lambda", "1", "-o", str(out))
    assert done.returncode == 0, done.stderr
    assert (out / "model.safetensors").read_bytes() == (
        checkpoint_folder("thinking") / "model.safetensors"
    ).read_bytes()
    assert json.loads((out / "mull.json").read_text())["instruct"]["name"] == "me/instruct"
    Hub.asked.clear()
    assert python(hub, "-m", "mull.cli.main", "inspect", "me/instruct", "me/thinking", "--no-sigma").returncode == 0
    assert not any("model.safetensors" in path for path in Hub.asked)  # the client's cache holds it


def test_templates_in_a_subfolder_are_downloaded_and_copied(hub: dict[str, str], tmp_path: Path) -> None:
    shutil.copytree(checkpoint_folder("thinking"), tmp_path / "thinking")
    Hub.folders["me/thinking"] = tmp_path / "thinking"
    for name in ("additional_chat_templates/rag.jinja", "original/params.json", "copy/model.safetensors"):
        (tmp_path / "thinking" / name).parent.mkdir()
        (tmp_path / "thinking" / name).write_text(name)
    ends = ("--instruct", "me/instruct", "--thinking", "me/thinking")
    done = python(hub, "-m", "mull.cli.main", "merge", *ends, "--lambda", "0.5", "-o", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "additional_chat_templates" / "rag.jinja").read_text().endswith("rag.jinja")
    assert not any("original" in path or "copy" in path for path in Hub.asked if "/resolve/" in path)
    assert not any((tmp_path / "out" / name).exists() for name in ("original", "copy"))


def test_the_license_of_models_on_the_hub_goes_onto_the_card(hub: dict[str, str], tmp_path: Path) -> None:
    for side in ("instruct", "thinking"):
        folder = shutil.copytree(checkpoint_folder(side), tmp_path / side)
        (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
        Hub.folders[f"me/{side}"] = folder
    ends = ("--instruct", "me/instruct", "--thinking", "me/thinking")
    done = python(hub, "-m", "mull.cli.main", "merge", *ends, "--lambda", "0.5", "-o", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    card = (tmp_path / "out" / "README.md").read_text()
    assert "\nlicense: apache-2.0\n" in card and "\n- me/instruct\n- me/thinking\n" in card


def test_a_model_that_the_hub_does_not_have(hub: dict[str, str]) -> None:
    done = python(hub, "-m", "mull.cli.main", "inspect", "me/instruct", "me/nothing")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "me/nothing is no local folder, and the hub did not give it (Repository Not Found" in done.stderr


LOAD = (
    "from mull.benchmarks import load_benchmark; print([q.gold for q in load_benchmark({!r}, grader={!r}).questions()])"
)


def test_benchmarks_of_the_pinned_revision(hub: dict[str, str]) -> None:
    done = python(hub, "-c", LOAD.format("aime25", "integer"))
    assert done.stdout.strip() == "['1', '2', '1', '2']", done.stderr
    source = SPECS["aime25"].source
    wanted = [f"/datasets/{source.repo}/resolve/{source.revision}/{file}" for file in source.files]
    assert [path for path in dict.fromkeys(Hub.asked) if "/resolve/" in path] == wanted
    assert python(hub, "-c", LOAD.format("math500", "exact")).stdout.strip() == "['3']"


def test_a_gated_benchmark_is_not_left_in_the_cache(hub: dict[str, str], tmp_path: Path) -> None:
    done = python(hub, "-c", LOAD.format("gpqa", "letter"))
    assert done.returncode == 0 and done.stdout.strip() in ("['A']", "['B']", "['C']", "['D']"), done.stderr
    left = [path for path in (tmp_path / "home").rglob("*") if path.is_file() and SECRET in path.read_text("latin-1")]
    assert not left


def test_a_benchmark_that_the_hub_does_not_have(hub: dict[str, str]) -> None:
    done = python(hub, "-c", LOAD.format("amc23", "integer"))
    assert "math-ai/amc23 could not be loaded from the hub (Repository Not Found" in done.stderr
    assert "--data FILE" in done.stderr
