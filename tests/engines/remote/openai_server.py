"""A small server of OpenAI's chat API, run as a process of its own, with the faults that real ones have.

    python tests/engines/remote/openai_server.py '{"models": ["name@0"], "faults": {"500": 0.2}, "log": "log.jsonl"}'

It prints its port. Options: `models` listed, with their `context`; `known` (pattern of those that answer, all by
default); `key` asked for; `faults` (429, 429-later, 500, hang, break, garbage, abort → probability); `die_after` so
many answers; `hang_after` so many requests; `hang`, seconds that a fault of this kind lasts; `seconds` per answer;
`poison` (seeds that never work); `split` (name of the field for the thought); `refused` fields; `uncounted` (no token
counts); `only_streams` (refuses to answer in one piece); `pair` (answer with the built-in
models at the λ of the model's name). `log` gets a line per request.
"""

import json
import math
import os
import random
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty, SimpleQueue

OPTIONS = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
RANDOM = random.Random(OPTIONS.get("seed", 0))
LOCK = threading.Lock()
STATE = {"under_way": 0, "asked": 0, "answered": 0}
STARTED = time.monotonic()


def invent(request):
    """(text, tokens, finish): a thought above λ = 0.5, an answer drawn by the seed."""
    lam = float(request["model"].split("@")[-1])
    drawn = random.Random(f"{request.get('seed')} {request['messages']}").randrange(1000)
    text = f"<think>\nSo {drawn}.\n</think>\n\n\\boxed{{{drawn}}}" if lam > 0.5 else f"\\boxed{{{drawn}}}"
    return text, len(text), "stop"


def limit_of(request):
    return request.get("max_tokens", request.get("max_completion_tokens"))


class Pair(threading.Thread):
    """Answers with the built-in pair, many requests of one λ at a time."""

    def __init__(self):
        super().__init__(daemon=True)
        self.queue = SimpleQueue()
        self.start()

    def run(self):
        from mull.engines.base import Request, Sampling
        from mull.engines.local.engine import LocalEngine
        from mull.merging.coefficients import Coefficients
        from mull.tiny import checkpoint_folder

        engine = LocalEngine(checkpoint_folder("instruct"), checkpoint_folder("thinking"), processes=1)
        while True:
            asked = [self.queue.get()]
            time.sleep(0.1)  # so that a batch comes together
            try:
                while True:
                    asked.append(self.queue.get_nowait())
            except Empty:
                pass
            for model in {request["model"] for request, _ in asked}:
                mine = {str(i): pair for i, pair in enumerate(asked) if pair[0]["model"] == model}
                engine.set_weights(Coefficients.scalar(float(model.split("@")[-1])))
                requests = [
                    Request(
                        id=i,
                        prompt_ids=engine.render(request["messages"]),
                        seed=request["seed"],
                        sampling=Sampling(
                            temperature=request["temperature"],
                            top_p=request["top_p"],
                            top_k=max(0, request["top_k"]),
                            max_tokens=limit_of(request) or 64,
                        ),
                    )
                    for i, (request, _) in mine.items()
                ]
                for done in engine.generate(requests):
                    mine[done.id][1].put((done.text, len(done.token_ids), done.finish))

    def __call__(self, request):
        answer = SimpleQueue()
        self.queue.put((request, answer))
        return answer.get()


ANSWER = Pair() if OPTIONS.get("pair") else invent


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def reply(self, code, body, headers=()):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        for name, value in (("Content-Type", "application/json"), ("Content-Length", len(data)), *headers):
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(data)

    def allowed(self):
        key = OPTIONS.get("key")
        given = self.headers.get("Authorization", "")
        if key and given != f"Bearer {key}":
            self.reply(401, {"error": {"message": f"Incorrect API key provided: {given.removeprefix('Bearer ')}."}})
            return False
        return True

    def do_GET(self):
        if not self.allowed():
            return
        if self.path != "/v1/models" or "models" not in OPTIONS:
            self.reply(404, b"<html>not here</html>", [("X-Kind", "html")])
        else:
            about = {"max_model_len": OPTIONS["context"]} if "context" in OPTIONS else {}
            self.reply(200, {"object": "list", "data": [{"id": name, **about} for name in OPTIONS["models"]]})

    def do_POST(self):
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if not self.allowed():
            return
        if self.path != "/v1/chat/completions":
            self.reply(404, {"detail": "Not Found"})
            return
        request = json.loads(data)
        with LOCK:
            STATE["under_way"] += 1
            STATE["asked"] += 1
            fault = "hang" if STATE["asked"] > OPTIONS.get("hang_after", math.inf) else self.draw()
            entry = {"at": time.monotonic() - STARTED, "under_way": STATE["under_way"], "fault": fault, **request}
            if "log" in OPTIONS:
                with open(OPTIONS["log"], "a") as log:  # noqa: PTH123
                    log.write(json.dumps(entry) + "\n")
        try:
            self.answer(request, fault)
        finally:
            with LOCK:
                STATE["under_way"] -= 1

    def draw(self):
        number, total = RANDOM.random(), 0.0
        for name, share in OPTIONS.get("faults", {}).items():
            total += share
            if number < total:
                return name
        return None

    def answer(self, request, fault):
        for name in OPTIONS.get("refused", ()):
            if name in request:
                self.reply(400, {"error": {"message": f"Unrecognized request argument supplied: {name}"}})
                return
        if request.get("seed") in OPTIONS.get("poison", ()):
            self.reply(500, {"error": {"message": "this one never works"}})
            return
        if not re.fullmatch(OPTIONS.get("known", ".*"), request["model"]):
            self.reply(404, {"error": {"message": f"The model `{request['model']}` does not exist."}})
            return
        if OPTIONS.get("only_streams") and not request["stream"]:
            self.reply(400, {"error": {"message": "This model only supports streaming: set stream to true."}})
            return
        if limit_of(request) == 1:
            request = {"seed": 0, "temperature": 0, "top_p": 1, "top_k": -1, **request}
            fault = None
        if fault in ("429", "500"):
            self.reply(int(fault), {"error": {"message": "later"}})
            return
        if fault == "429-later":
            self.reply(429, {"error": {"message": "slow down"}}, [("Retry-After", "1")])
            return
        if fault == "hang":
            time.sleep(OPTIONS.get("hang", 30))
        if fault == "break":
            self.close_connection = True
            self.connection.close()
            return
        if fault == "garbage":
            self.reply(200, b"{half a rep")
            return
        time.sleep(OPTIONS.get("seconds", 0))
        text, tokens, finish = ANSWER(request)
        message = {"role": "assistant", "content": text}
        split = OPTIONS.get("split")
        if split and "</think>" in text:
            thought, content = text.split("</think>", 1)
            message = {"role": "assistant", split: thought.removeprefix("<think>\n"), "content": content.lstrip()}
        if fault == "abort":
            finish = "abort"
        usage = {} if OPTIONS.get("uncounted") else {"usage": {"prompt_tokens": 5, "completion_tokens": tokens}}
        with LOCK:  # one reply at a time, so that none follows the last
            if request["stream"]:
                self.stream(message, finish, usage)
            else:
                self.reply(200, {"choices": [{"index": 0, "message": message, "finish_reason": finish}], **usage})
            STATE["answered"] += 1
            if STATE["answered"] == OPTIONS.get("die_after"):
                os._exit(9)

    def stream(self, message, finish, usage):
        """The message, three characters an event."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        pieces = [{name: text[i : i + 3]} for name, text in message.items() for i in range(0, len(text), 3)]
        chunks = [{"choices": [{"index": 0, "delta": piece, "finish_reason": None}]} for piece in pieces]
        chunks += [{"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}, {"choices": [], **usage}]
        lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
        self.wfile.write("".join([": waiting\n\n", *lines, "data: [DONE]\n\n"]).encode())


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        pass


if __name__ == "__main__":
    server = Server(("127.0.0.1", OPTIONS.get("port", 0)), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()
