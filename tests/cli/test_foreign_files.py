"""Files that others made, changed at random: commands answer, or refuse in one line, never by a traceback."""

import json
import random
import shutil
import sqlite3
from pathlib import Path

import pytest

from mull.benchmarks import load_benchmark
from mull.engines.local.prompts import Prompts
from mull.errors import MullError
from mull.tiny import checkpoint_folder
from tests.running import mull

VALUES = [
    None, True, -1, 0, 1.5, 2**70, -(2**70), float("nan"), 1e308, "", "x", "\x1b[31m", "\ud83d", "é" * 50, [], [None],
    [[1]], {}, {"a": {}}, {"a": None}, [5, "x"], {"": ""}, "9" * 5000,
]  # fmt: skip
BYTES = [b"", b"\x00", b"\xff\xfe", b"{", b"[" * 100_000, b"9" * 5000, b'"', b"\\ud83d", b"\r", b"null", b"\x1b[2J"]


def change(value, random):
    """One place of a JSON value, anywhere in it, replaced, doubled, renamed or left out."""
    if not isinstance(value, dict | list) or not value or random.random() < 0.15:
        return random.choice(VALUES)
    if isinstance(value, list):
        i = random.randrange(len(value))
        return [*value[:i], change(value[i], random), *value[i + 1 :]]
    key = random.choice(list(value))
    kind = random.random()
    if kind < 0.1:
        return {other: each for other, each in value.items() if other != key}
    if kind < 0.2:
        return {(str(random.choice(VALUES)) if other == key else other): each for other, each in value.items()}
    return {**value, key: change(value[key], random)}


def damage(content, random):
    """Some bytes replaced, put in or cut off."""
    at, piece = random.randrange(len(content) + 1), random.choice(BYTES)
    return content[:at] + piece + content[at + random.choice([0, 1, len(piece), len(content)]) :]


def in_one_line(*arguments):
    done = mull(*arguments)
    assert "Traceback" not in done.stderr and done.returncode in (0, 1, 2), done.stderr[-3000:]
    if done.returncode == 2:
        assert done.stderr.splitlines()[-1].startswith("mull: "), done.stderr
    assert "\x1b" not in done.stdout + done.stderr


def seeds(few, many):
    return [*range(few), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(few, many))]


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(checkpoint_folder("thinking"), tmp_path / "thinking")


JSON_FILES = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"]


def change_json(path, random):
    if random.random() < 0.2:
        path.write_bytes(damage(path.read_bytes(), random))
    else:
        path.write_text(json.dumps(change(json.loads(path.read_text()), random)))


@pytest.mark.parametrize("name", [*JSON_FILES, "chat_template.jinja"])
@pytest.mark.parametrize("seed", seeds(8, 400))
def test_a_checkpoint_is_inspected_or_refused(folder, name, seed):
    chance = random.Random(f"{name} {seed}")
    path = folder / name
    if name.endswith("jinja"):
        path.write_bytes(damage(b"{% for m in messages %}{{ m.content }}{% endfor %}", chance))
    else:
        change_json(path, chance)
    in_one_line("inspect", checkpoint_folder("instruct"), folder)


@pytest.mark.parametrize("seed", seeds(4, 100))
def test_an_index_is_read_or_refused(folder, seed):
    chance = random.Random(seed)
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    index = {"metadata": {"total_size": 1}, "weight_map": {"model.norm.weight": "model-00001-of-00001.safetensors"}}
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps(index))
    change_json(path, chance)
    in_one_line("inspect", checkpoint_folder("instruct"), folder)


@pytest.mark.parametrize("name", JSON_FILES)
@pytest.mark.parametrize("seed", seeds(2, 60))
def test_a_prompt_is_rendered_or_refused(folder, name, seed):
    change_json(folder / name, random.Random(f"{name} {seed}"))
    try:
        assert all(type(i) is int for i in Prompts(folder).render([{"role": "user", "content": "1 + 1?"}]))
    except MullError as error:
        assert str(error)


@pytest.mark.parametrize("seed", seeds(4, 200))
def test_a_table_of_results_is_read_or_refused(tmp_path, seed):
    lines = ["lambda,benchmark,think_ratio,mean", *(f"{lam / 5},math,{20 * lam},{50 + lam}" for lam in range(6))]
    path = tmp_path / "table.csv"
    path.write_bytes(damage("\n".join(lines).encode(), random.Random(seed)))
    in_one_line("stages", path)


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("seed", seeds(8, 400))
def test_a_data_file_is_read_or_refused(tmp_path, suffix, seed):
    chance = random.Random(f"{suffix} {seed}")
    rows = [{"question": f"{i} + 1?", "answer": str(i + 1), "id": f"q{i}", "stratum": "easy"} for i in range(5)]
    path = tmp_path / f"mine.{suffix}"
    if suffix == "jsonl":
        rows[2] = change(rows[2], chance)
        content = "\n".join(map(json.dumps, rows)).encode()
        path.write_bytes(damage(content, chance) if chance.random() < 0.5 else content)
    elif suffix == "csv":
        lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
        path.write_bytes(damage("\n".join(lines).encode(), chance))
    else:
        import polars

        polars.DataFrame(rows).write_parquet(path)
        path.write_bytes(damage(path.read_bytes(), chance))
    try:
        for question in load_benchmark(str(path), grader="exact").questions():
            question.text.encode(), question.gold.encode(), question.id.encode(), question.stratum.encode()
    except MullError as error:
        assert "\n" not in str(error)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A small run of the built-in pair."""
    run = tmp_path_factory.mktemp("recorded") / "run"
    sides = ("--instruct", checkpoint_folder("instruct"), "--thinking", checkpoint_folder("thinking"))
    done = mull("sweep", *sides, "--lambdas", "0,1", "-k", 2, "--questions", 3, "--max-tokens", 8, "--run", run)
    assert done.returncode == 0, done.stderr
    return run


def change_database(path: Path, chance):
    if chance.random() < 0.3:
        path.write_bytes(damage(path.read_bytes(), chance))
        return
    connection = sqlite3.connect(path)
    with connection:
        if chance.random() < 0.5:
            key, value = chance.choice(connection.execute("SELECT key, value FROM meta").fetchall())
            new = json.dumps(change(json.loads(value), chance))
            connection.execute("UPDATE meta SET value = ? WHERE key = ?", (new, key))
        else:
            columns = [row[1] for row in connection.execute("PRAGMA table_info(samples)")]
            values = [*(value for value in VALUES if isinstance(value, int | float | str | None)), b"\xff"]
            new = chance.choice([value for value in values if value != "\ud83d" and not abs_above(value)])
            column = chance.choice(columns)
            row = chance.randrange(1, 4)
            connection.execute(f'UPDATE OR IGNORE samples SET "{column}" = ? WHERE rowid = ?', (new, row))
    connection.close()


def abs_above(value):
    return type(value) is int and abs(value) >= 1 << 63


@pytest.mark.parametrize("seed", seeds(16, 400))
def test_a_run_is_read_or_refused(recorded, tmp_path, seed):
    run = shutil.copytree(recorded, tmp_path / "run")
    change_database(run / "run.sqlite", random.Random(seed))
    command = (["choose", run, "--budget", 100], ["export", run], ["headroom", run], ["regrade", run])[seed % 4]
    in_one_line(*command)
    in_one_line("status", run)
    if seed % 8 == 0:
        in_one_line("report", run, "--out", tmp_path / "report")
