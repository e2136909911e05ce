"""Asks a running `mull serve` by clients that exist, each in an environment of its own: `make test-clients`.

The last of them, schemathesis, sends 10,000 random and malformed requests; MULL_REQUESTS changes their number.

A client is a program beside this file that takes the server's URL and fails if it is not answered as it should be.
Environments are kept in `.clients`, or where MULL_CLIENTS says. A client that cannot be installed is named and fails.

    python tests/clients/run.py [NAME …]
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = Path(os.environ.get("MULL_CLIENTS", HERE.parent.parent / ".clients")).resolve()
PACKAGES = {
    "openai": ["openai"],
    "litellm": ["litellm"],
    "inspect_ai": ["inspect_ai", "openai"],
    "lm-eval": ["lm-eval[api]"],
    "npm": ["openai"],
    "schemathesis": ["schemathesis"],
}
SERVER = {"schemathesis": ["--max-tokens", "4", "--timeout", "5", "--waiting", "64"]}
"""Options of the server, for clients that need others."""
LONGEST = {"schemathesis": 7200}
"""Seconds that a client may take, if more than ten minutes."""
QUIET = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "OPENAI_API_KEY": "none",
    "INSPECT_DISPLAY": "none",
}
"""Clients ask nobody but the server."""


def install(name: str) -> None:
    """The client's environment, unless it is there."""
    folder = ENVIRONMENTS / name
    if name == "npm":
        if not (folder / "node_modules" / "openai").is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            subprocess.run(["npm", "install", "--prefix", str(folder), *PACKAGES[name]], check=True)
    elif not (folder / "bin" / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *PACKAGES[name]], check=True)


def command(name: str, url: str) -> list[str]:
    """How the client's program is started."""
    folder = ENVIRONMENTS / name
    if name == "npm":
        shutil.copy(HERE / "ask.mjs", folder / "ask.mjs")  # modules are looked for beside the program
        return ["node", str(folder / "ask.mjs"), url]
    return [str(folder / "bin" / "python"), str(HERE / f"ask_{name.replace('-', '_')}.py"), url]


def main(names: list[str]) -> int:
    failed = []
    for name in names or PACKAGES:
        began = time.perf_counter()
        try:
            install(name)
            with serving(SERVER.get(name, [])) as url:
                asked, environment = command(name, url), {**os.environ, **QUIET}
                subprocess.run(asked, check=True, env=environment, cwd=HERE, timeout=LONGEST.get(name, 600))
            print(f"{name}: passed in {time.perf_counter() - began:.0f} s", flush=True)
        except (OSError, subprocess.SubprocessError) as error:
            print(f"{name}: FAILED: {error}", flush=True)
            failed.append(name)
    return len(failed)


@contextmanager
def serving(options: list[str]) -> Iterator[str]:
    """A server with the built-in pair; gives its URL."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    started = [sys.executable, "-m", "mull.cli.main", "serve", "--port", port, "--lambda", "0.5", *options]
    server = subprocess.Popen(started)
    url = f"http://127.0.0.1:{port}/v1"
    try:
        while not _answers(url):
            if server.poll() is not None:
                raise OSError("the server did not start")
            time.sleep(0.2)
        yield url
    finally:
        server.terminate()
        server.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/models"):
            return True
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
