"""`mull plan` on the command line: what it prints, and what it refuses."""

import json
import re
import subprocess
import sys

import pytest

from mull.planning.configs import find, known
from mull.planning.hardware import GPUS, Cluster
from mull.planning.ways import WAYS, Traffic, fits
from tests.running import mull


def printed(*arguments):
    answer = mull("plan", *arguments)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def test_a_pair_on_one_gpu():
    text = printed("--model", "Qwen3-30B-A3B", "--gpus", 1)
    for way in WAYS:
        assert way.title in text
    assert re.search(r"all +30,532\.1 +61\.06", text) and re.search(r"used by a token +3,353\.0", text)
    assert "no room: 184 GB for weights and one response, of 125 GB usable; there is on 2 × H200" in text
    assert "serve: vLLM, λ per request. One batch for all λ" in text
    turns = printed("--model", "Qwen3-235B-A22B", "--gpus", 4)
    assert "serve: vLLM, ends in CPU memory. 4 λ take turns on 1 replica" in turns
    assert "CPU memory for both ends: 940 GB a replica" in turns
    assert text.count("assumed: ") == 4 and "an assumption, not a measurement" in text


def test_json_has_what_the_tables_show():
    found = json.loads(printed("--model", "Qwen3-4B", "--gpu", "rtx4090", "--concurrent", 8, "--json"))
    expected = fits(
        find("Qwen3-4B"), Cluster(gpu=GPUS["RTX4090"]), Traffic(prompt=500, tokens=4000, concurrent=8, lambdas=4)
    )
    assert [way["way"]["key"] for way in found["ways"]] == [each.way.key for each in expected]
    assert [way["step"] for way in found["ways"]] == [each.step for each in expected]
    assert found["best"] == "row" and found["sweep"] is None
    assert found["model"]["parameters"]["attention"] == 943_718_400
    assert found["machine"]["gpu"]["memory"] == 24e9 and len(found["assumptions"]) == 4


def test_all_pairs_on_one_machine():
    text = printed("--gpu", "RTX4090")
    assert all(name in text for name in known())
    assert re.search(r"Qwen3-30B-A3B +from 4 +from 8 +from 2 × 8 +from 4 +–", text)
    rows = json.loads(printed("--gpu", "RTX4090", "--json"))["ways"]
    assert [row["model"] for row in rows] == list(known())
    assert rows[0]["row"] == "1 × TP 1" and rows[0]["place"] == "from 2"


def test_a_sweep_has_the_published_tokens_and_its_price():
    text = printed("--model", "Qwen3-4B", "--benchmark", "aime25", "-k", 64, "--lambdas", "0,0.65,1", "--price", 2)
    # Published means are those of λ 0, 0.6 (12,681), 0.8 (17,574) and 1.
    assert re.search(r"λ 0 +1,920 +15,097 ", text) and re.search(r"λ 0\.65 +1,920 +13,904 ", text)
    assert "published for Qwen3-4B, Wu et al. 2025" in " ".join(text.split())
    hours, cost = re.search(r"= ([\d.]+) GPU hours, ([\d.]+) at 2\.00 a GPU hour", text).groups()
    assert float(cost) == pytest.approx(2 * float(hours), abs=0.02)


def test_a_sweep_without_published_tokens_is_at_its_limit_or_as_given():
    found = json.loads(printed("--model", "Qwen3-4B", "--benchmark", "math500", "-k", 2, "--questions", 5, "--json"))
    parts = [each["part"] for each in found["sweep"]["lambdas"]]
    assert [part["tokens"] for part in parts] == [32_768.0] * 4 and parts[0]["responses"] == 10
    assert "--tokens" in found["sweep"]["tokens_from"]
    given = json.loads(printed("--model", "Qwen3-4B", "--benchmark", "aime25", "--tokens", 700, "--json"))["sweep"]
    assert {each["part"]["tokens"] for each in given["lambdas"]} == {700.0}
    assert given["hours_planned"] == pytest.approx(2 * given["all"]["seconds"] / 3600)


def test_half_the_efficiency_is_twice_the_time():
    asked = ("--model", "Qwen3-4B", "--benchmark", "gpqa", "--json", "--efficiency")
    fast, slow = (json.loads(printed(*asked, share))["sweep"] for share in (0.8, 0.4))
    assert slow["hours_planned"] == pytest.approx(2 * fast["hours_planned"])
    assert slow["all"] == fast["all"]


def test_a_sweep_has_one_lambda_after_the_other_in_full_batches():
    found = json.loads(printed("--model", "Qwen3-4B", "--benchmark", "aime25", "--tokens", 700, "--json"))
    assert found["traffic"] == {"prompt": 500, "tokens": 700, "concurrent": None, "lambdas": 1}
    assert found["best"] == found["sweep"]["fit"]["way"]["key"] == "place"
    assert all(way["all_lambdas"] and way["batch"] == way["rows"] for way in found["ways"])


def test_requests_a_second_are_enough_or_say_how_many_replicas_are():
    asked = ("--model", "Qwen3-4B", "--requests-per-second")
    assert ": enough" in printed(*asked, 1)
    line = next(line for line in printed(*asked, 10).splitlines() if line.startswith("requests"))
    planned, replicas = re.search(r"10 a second asked, ([\d.]+) planned: take (\d+) replicas, \2 GPUs", line).groups()
    assert (int(replicas) - 1) * float(planned) < 10 <= int(replicas) * float(planned)


def test_what_has_no_room_says_so():
    assert "serve: nothing has room" in printed("--model", "DeepSeek-V3")
    text = printed("--model", "DeepSeek-V3", "--benchmark", "aime25")
    assert "sweep: nothing has room" in text
    assert "is stored in fp8 (673 GB), and mull mixes no quantised weights" in text
    found = json.loads(printed("--model", "DeepSeek-V3", "--benchmark", "aime25", "--json"))
    assert found["best"] is None and found["sweep"] is None


def test_a_config_of_ones_own(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(known()["Qwen3-4B"]["config"]))
    text = printed("--model", tmp_path / "config.json")
    assert f"{tmp_path.name} in bfloat16" in " ".join(text.split())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--model", "Qwen3-40B"], "unknown model 'Qwen3-40B'. Did you mean 'Qwen3-4B'"),
        (["--gpu", "H2000"], "unknown GPU 'H2000'. Did you mean 'H200'"),
        (["--model", "Qwen3-4B", "--benchmark", "aime2025"], "unknown benchmark 'aime2025'. Did you mean 'aime25'"),
        (["--benchmark", "aime25"], "--benchmark plans the sweep of one pair. Name it by --model"),
        (["--lambdas", "0,2"], "lambda must lie in [0, 1]"),
        (["--model", "no/such/folder/config.json"], "cannot read no/such/folder/config.json"),
        (["--gpus", "0"], "--gpus"),
        (["--efficiency", "2"], "--efficiency"),
        (["--tokens", "0"], "--tokens"),
    ],
)
def test_wrong_input_is_refused(arguments, says):
    answer = mull("plan", *arguments)
    assert answer.returncode == 2
    assert says in " ".join(answer.stderr.split()) and "Traceback" not in answer.stderr


def test_no_model_library_is_loaded():
    code = (
        "import sys; from mull.cli.verbs.plan import plan; print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split() == ["False"] * 2
