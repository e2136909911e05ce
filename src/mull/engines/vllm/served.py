"""Generates with a vLLM server that is started for it, a λ for every request. Implements `mull.engines.base.Engine`.

For what vLLM does as a server only: several copies of the model behind one address (`data_parallel_size`). Requests and
replies are text, as with any other server.
"""

from __future__ import annotations

import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2

from mull.engines.base import Completion, Request
from mull.engines.remote.endpoints import Endpoints, Target
from mull.engines.remote.engine import RemoteEngine
from mull.engines.vllm import versions
from mull.engines.vllm.launch import NAME, serve
from mull.engines.vllm.told import listening
from mull.errors import MullError
from mull.merging.coefficients.recipe import Recipe
from mull.merging.coefficients.rules import shortest

SECONDS = 3600.0
"""Most that a server may take to start: some models are read from slow disks."""


class ServedEngine:
    """A server of this machine, which nobody else is told of; `close` ends it."""

    def __init__(
        self,
        folders: Mapping[str, Path],
        lams: Sequence[float],
        *,
        donor: str = "thinking",
        dtype: str | None = None,
        batch_size: int | None = None,
        context: int | None = None,
        trust_remote_code: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Starts vLLM on the checkpoints in `folders`, by role, and waits until it answers.

        `lams`: all λ that requests will have. `dtype`, `batch_size`, `context`, `options`: see `VllmEngine`.

        Raises `MullError` if vLLM is not here, was not tested, or ends before it answers.
        """
        dtype = dtype or versions.default_dtype(folders[donor])
        given = {"dtype": dtype, "max_num_seqs": batch_size, "max_model_len": context, **(options or {})}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = int(free.getsockname()[1])
        extra = [word for name, value in given.items() if value is not None for word in _words(name, value)]
        command = serve(
            folders,
            donor,
            name=NAME,
            host="127.0.0.1",
            port=port,
            trust_remote_code=trust_remote_code,
            extra=["--disable-uvicorn-access-log", *extra],
        )
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 -- it is open as long as the server
        with listening():
            self._server = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the sweep, which ends the server when it has stored what came
            )
            try:
                self._wait(f"http://127.0.0.1:{port}/health")
            except BaseException:
                self.close()
                raise
        url = f"http://127.0.0.1:{port}/v1"
        targets = {shortest(lam): Target(url, NAME, {"vllm_xargs": {"lambda": lam}}) for lam in lams}
        self._remote = RemoteEngine(
            Endpoints(targets),
            concurrency=2 * (batch_size or _AT_ONCE),
            retries=2,
            key_variable=_NO_KEY,
            through_proxies=False,
        )
        self.render = self._remote.render
        self.kernels = f"a server of vLLM {versions.installed()} on {versions.device()}, {dtype}"
        """What decides the last bits of responses, in words."""

    def set_weights(self, weights: Recipe) -> None:
        """Raises `MullError`: every request has its λ."""
        raise MullError("an engine with a λ per row has no weights to set", "Give each request its λ")

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """See `RemoteEngine.generate`. Raises `MullError` if the server has ended, too."""
        try:
            yield from self._remote.generate(requests)
        except MullError as error:
            if self._server.poll() is None:
                raise
            what = f"vLLM's server ended with exit code {self._server.returncode}: {self._said()}"
            raise MullError(
                what, "what came is on record: the same command starts it anew and asks for the rest"
            ) from error

    def close(self) -> None:
        """Ends the server."""
        self._server.terminate()
        try:
            self._server.wait(60)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()

    def _wait(self, url: str) -> None:
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            if self._server.poll() is not None:
                code = self._server.returncode
                raise MullError(
                    f"vLLM's server ended with exit code {code}: {self._said()}", "mend that, or its options"
                )
            try:
                httpx2.get(url, timeout=5, trust_env=False).raise_for_status()
                return
            except httpx2.HTTPError:
                time.sleep(0.5)
        raise MullError(f"vLLM's server does not answer after {SECONDS:g} s: {self._said()}", "look at its options")

    def _said(self) -> str:
        """The last error that the server printed, or its last line."""
        self._log.seek(0)
        lines = [line.strip() for line in self._log.read().decode(errors="replace").splitlines() if line.strip()]
        errors = [line for line in lines if "Error" in line and "Traceback" not in line]
        return (errors or lines or ["it said nothing"])[-1][-500:]


_AT_ONCE = 256
"""Requests at once if nothing is said: vLLM queues what it cannot run yet."""
_NO_KEY = "MULL_KEY_OF_ITS_OWN_SERVER"
"""No variable's name: the user's key is for other servers."""


def _words(name: str, value: Any) -> list[str]:
    """An argument of `vllm.LLM` as an option of `vllm serve`."""
    option = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{option}" if value else f"--no-{option}"]
    return [f"--{option}", value if isinstance(value, str) else json.dumps(value)]
