"""`mull chat`: commands and figures on a console that is not there, lines in a pipe, Ctrl-C on a real terminal."""

import io
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest
from rich.console import Console

from mull.cli.rendering.chat import ChatScreen
from mull.cli.verbs.chat import COMMANDS, talk
from mull.engines.local.streaming.thought import Piece
from mull.errors import MullError
from mull.serving.chat import Turn

from ...running import COMMAND, mull

DIM, PLAIN = "\x1b[2m", "\x1b[0m"


class FakeChat:
    """Answers each question with its own letters in capitals, after some thought."""

    def __init__(self, *, corrected=False, stop_at=None):
        self.lam, self.budget, self.turns = None, None, []
        self.corrected, self.stop_at = corrected, stop_at

    def set_budget(self, tokens):
        self.budget = tokens

    def new(self):
        self.turns = []

    def ask(self, question):
        if question == "too long":
            raise MullError("too long", "shorten it")
        yield Piece("thought", "let me ")
        if question == self.stop_at:
            raise KeyboardInterrupt
        yield Piece("thought", "think\x1b[31m")
        yield Piece("answer", question.upper())
        self.turns.append(
            Turn(
                question=question,
                thought="let me think",
                answer=question.upper(),
                lam=0.25,
                why="auto: sure",
                thought_tokens=1,
                answer_tokens=1234,
                seconds=0.84,
                finish="length" if question == "long" else "stop",
                corrected=self.corrected,
            )
        )


def shown(chat, *lines, terminal=True):
    """What a chat shows for lines, and its complaints."""
    console = Console(file=io.StringIO(), force_terminal=terminal, color_system="standard" if terminal else None)
    waiting, complaints = list(lines), []

    def read():
        if not waiting:
            raise EOFError
        line = waiting.pop(0)
        if line is KeyboardInterrupt:
            raise KeyboardInterrupt
        return line

    talk(chat, ChatScreen(console), read, complaints.append)
    return console.file.getvalue(), [str(each) for each in complaints]


def test_the_thought_is_dim_and_the_answer_plain_with_figures_after_it():
    text, complaints = shown(FakeChat(), "what?")
    assert f"{DIM}let me {PLAIN}" in text and "\nWHAT?\n" in text
    assert "λ 0.25 (auto: sure) · 1 token of thought, 1,234 of answer · 0.8 s" in text
    assert complaints == []


def test_an_answer_at_the_token_limit_says_so():
    assert "answer, cut at the token limit ·" in shown(FakeChat(), "long")[0]


def test_an_answer_that_came_as_thought_is_shown_again():
    text, _ = shown(FakeChat(corrected=True), "what?")
    assert text.count("WHAT?") == 2 and "turned out to be the answer" in text


def test_commands_change_the_next_turns():
    chat = FakeChat()
    text, complaints = shown(chat, "/lambda 0.4", "/budget 200", "hello", "/history")
    assert (chat.lam, chat.budget) == (0.4, 200) and text.count("HELLO") == 2
    assert "λ is 0.4 from now on" in text and "closed after 200 tokens" in text
    text, _ = shown(chat, "/auto", "/budget off", "/new", "/help")
    assert (chat.lam, chat.budget, chat.turns) == (None, None, [])
    assert all(line in text for line in COMMANDS.values())
    assert complaints == []


@pytest.mark.parametrize("line", ["/lambda 1.5", "/lambda", "/lambda much", "/budget many", "/budget -3", "/foo"])
def test_a_wrong_command_changes_nothing_and_the_chat_goes_on(line):
    chat = FakeChat()
    text, complaints = shown(chat, "/lambda 0.4", "/budget 7", line, "hello")
    assert (chat.lam, chat.budget) == (0.4, 7) and "HELLO" in text
    assert len(complaints) == 1 and line.split()[0] in complaints[0]


def test_a_question_that_begins_with_a_slash_needs_a_space():
    assert "/FOO" in shown(FakeChat(), " /foo")[0]


def test_an_error_ends_the_turn_alone():
    text, complaints = shown(FakeChat(), "too long", "hello")
    assert len(complaints) == 1 and "HELLO" in text


def test_ctrl_c_stops_an_answer_and_at_the_prompt_it_ends():
    text, _ = shown(FakeChat(stop_at="stop"), "stop", "hello", KeyboardInterrupt, "never")
    assert "(stopped" in text and "HELLO" in text and "NEVER" not in text


def test_quit_ends():
    assert "NEVER" not in shown(FakeChat(), "/quit", "never")[0]


def test_a_pipe_gets_the_answers_and_no_more():
    text, complaints = shown(FakeChat(), "/lambda 0.4", "hello", "", "you", "/nonsense", terminal=False)
    assert text == "HELLO\nYOU\n" and len(complaints) == 1


def test_in_a_pipe():
    lines = "What is the sum of 3 4 5 6 7?\n/lambda 0\nWhat is the sum of 1 2 3 4 5?\n"
    found = subprocess.run(
        [*COMMAND, "chat", "--temperature", "0", "--lambda", "1"], input=lines, capture_output=True, text=True
    )
    assert found.returncode == 0 and found.stderr == ""
    assert found.stdout.count("\\boxed{") == 2 and "\x1b" not in found.stdout and "think" not in found.stdout


class Screen:
    """`mull chat` on a pseudo-terminal."""

    def __init__(self, *arguments):
        self.text = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "xterm"
            os.execv(sys.executable, [*COMMAND, "chat", *arguments])

    def until(self, what, seconds=120):
        """Reads until `what` is seen in what has not been seen yet."""
        end = time.monotonic() + seconds
        while not (found := re.search(what, self.text)):
            assert time.monotonic() < end, f"no {what!r} in {self.text!r}"
            if select.select([self.fd], [], [], 0.2)[0]:
                try:
                    self.text += os.read(self.fd, 4096).decode(errors="replace")
                except OSError:
                    raise AssertionError(f"ended without {what!r}: {self.text!r}") from None
        seen, self.text = self.text[: found.end()], self.text[found.end() :]
        return seen

    def type(self, line):
        os.write(self.fd, line.encode())

    def end(self):
        _, status = os.waitpid(self.pid, 0)
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)


def test_on_a_terminal():
    """A dim thought, a plain answer, an answer that Ctrl-C stops, and the end."""
    screen = Screen("--lambda", "1", "--temperature", "0")
    try:
        screen.until("> ")
        screen.type("What is the sum of 3 4 5 6 7?\n")
        answered = screen.until(r"λ 1 \(chosen by you\).* s\b")
        assert "\x1b[2m" in answered and "\\boxed{25}" in answered
        screen.until("> ")
        screen.type("Start at 22, then -0 +0 *1 -0 -6 +5 +1 -2 *3 +4. Keep the last two digits.\n")
        screen.until(re.escape("\x1b[2m"))
        os.kill(screen.pid, signal.SIGINT)
        screen.until("stopped")
        screen.until("> ")
        screen.type("/lambda 0\n")
        screen.until("λ is 0 from now on")
        screen.until("> ")
        screen.type("\x04")
        assert screen.end() == 0
    finally:
        with suppress(ProcessLookupError):
            os.kill(screen.pid, signal.SIGKILL)


def test_a_temperature_that_is_no_number_is_refused_before_anything_is_loaded():
    done = mull("chat", "--temperature", "inf")
    assert done.returncode == 2 and "--temperature must be 0 (greedy) or a positive number" in done.stderr
    assert "Traceback" not in done.stderr
