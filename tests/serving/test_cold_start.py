"""From nothing to the first token of the built-in pair in less than ten seconds of work."""

import os
import subprocess
import time
from pathlib import Path

import httpx2
import pytest

from ..running import COMMAND
from .live import free_port

ASK = {"model": "mull@0.5", "messages": [{"role": "user", "content": "What is the sum of 1 2 3?"}], "max_tokens": 1}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads times from /proc")
def test_the_first_token_takes_less_than_ten_seconds_of_the_processor():
    """Of its own time, since other programs may keep this machine busy."""
    port = free_port()
    server = subprocess.Popen([*COMMAND, "serve", "--port", str(port)], stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                reply = httpx2.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=ASK, timeout=300)
                break
            except httpx2.ConnectError:
                assert server.poll() is None
                time.sleep(0.1)
        assert reply.status_code == 200 and reply.json()["usage"]["completion_tokens"] == 1
        fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
        assert (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") < 10
    finally:
        server.terminate()
        server.wait()
