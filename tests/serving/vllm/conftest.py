"""`mull serve --engine vllm` as a process of its own, on the built-in pair.

Its Python is that of MULL_VLLM_PYTHON, by default this one; it must have vLLM and what mull needs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.serving.live import free_port

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
OPTIONS = (
    "--enforce-eager", "--dtype", "float32", "--max-model-len", "1024", "--max-num-seqs", "32",
    "--enable-auto-tool-choice", "--tool-call-parser", "hermes",
    "--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}',
)  # fmt: skip


def python() -> str:
    return os.environ.get("MULL_VLLM_PYTHON", sys.executable)


def with_entry_points(folder: Path) -> Path:
    """A folder for the path in which mull's entry points are found, installed or not."""
    given = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    info = folder / "mull-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mull\nVersion: 0\n")
    groups = (f"[{group}]\n" + "\n".join(f"{k} = {v}" for k, v in found.items()) for group, found in given.items())
    (info / "entry_points.txt").write_text("\n\n".join(groups))
    return folder


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[str]:
    """The URL of a server, without /v1. `options`: further ones of `mull serve`."""
    port = free_port()
    path = [str(ROOT / "src"), str(with_entry_points(folder)), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": os.pathsep.join(filter(None, path))}
    command = [python(), "-m", "mull.cli.main", "serve", "--engine", "vllm", "--lambda", "0.7", "--port", str(port)]
    command += [*options, "--", *OPTIONS]
    url = f"http://127.0.0.1:{port}"
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
        try:
            while not is_up(url):
                assert server.poll() is None, (folder / "log").read_text()[-4000:]
                time.sleep(1)
            yield url
        finally:
            server.terminate()
            server.wait(60)


@pytest.fixture(scope="package")
def vllm_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("vllm")) as url:
        yield url


def is_up(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/health").is_success
    except httpx2.TransportError:
        return False
