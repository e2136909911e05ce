"""Bars: the time left and the speed where they are known, never a question mark."""

import io

from rich.console import Console
from rich.progress import Progress

from mull.api.progress.bars import Speed, TimeLeft, byte_progress


def shown(columns, steps):
    """What a bar of 100 bytes shows after the steps (seconds, bytes)."""
    now = 0.0
    console = Console(file=io.StringIO(), width=80)
    progress = Progress(*columns, console=console, get_time=lambda: now)
    task = progress.add_task("", total=100)
    for seconds, count in steps:
        now += seconds
        progress.advance(task, count)
    console.print(progress.make_tasks_table(progress.tasks))
    return console.file.getvalue().strip()


def test_what_is_not_known_is_left_out():
    assert shown([Speed(), TimeLeft()], []) == ""
    assert shown([Speed(), TimeLeft()], [(1, 100)]).endswith("0:01"), "over at once: the time it took"


def test_speed_and_time_left():
    assert shown([Speed(), TimeLeft()], [(1, 10), (1, 10), (1, 10)]) == "10 bytes/s ETA 0:07"
    assert shown([Speed(), TimeLeft()], [(1, 50), (1, 50)]) == "50 bytes/s 0:02"


def test_a_bar_on_a_terminal_has_no_question_mark():
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with byte_progress("copying", 10, console) as advance:
        advance(10)
    assert "copying" in console.file.getvalue() and "?" not in console.file.getvalue().replace("?25", "")
