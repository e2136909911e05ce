"""Makes the plan of a run, and the loader of the engine that answers it, from the arguments of a call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypedDict, cast

from mull.benchmarks import Benchmark
from mull.benchmarks.several import load_benchmarks, names_in, token_limits
from mull.checkpoints.checkpoint import Checkpoint
from mull.checkpoints.pair import Pair
from mull.engines.base import Sampling
from mull.engines.remote.endpoints import Endpoints
from mull.errors import MullError, nearest
from mull.merging.coefficients import Coefficients, parse_lambdas
from mull.merging.coefficients.recipe import Recipe
from mull.runs.plan import StudyKind, SweepPlan
from mull.runs.sessions.loading import Loader, LocalLoader, RemoteLoader, check_one_lambda_each
from mull.runs.sessions.vllm import VllmLoader
from mull.runs.settings import Setting
from mull.thinking import ThinkTags

Weights = Setting | Recipe | Coefficients | float
Settings = Sequence[Weights] | Mapping[str, Weights]
"""The weights of each row of a run, numbers are λ; a mapping names them."""
ALLOWED = ("config", "tokens", "rope", "vocabulary")
"""In what a further checkpoint of a study may differ."""


class Options(TypedDict, total=False):
    """What `mull.sweep` and `mull.choose` take besides: questions, sampling, and what computes."""

    questions: int | Mapping[str, int]
    """Ask only this many questions of the benchmark; of several of each, or as in `{"gsm8k": 100}`."""
    question_seed: int
    """Of benchmarks that generate their questions; 0."""
    data: str | Path | Mapping[str, str | Path]
    """The benchmark's data file, in place of the one on the hub; for several a mapping from their names."""
    grader: str | Mapping[str, str]
    """In place of the benchmark's own; a data file of one's own needs one. `"FILE.py:FUNCTION"` is a function
    (answer, gold) → bool of one's own, which is run in another process."""
    prompt: str | Path
    """In place of the benchmark's user message: a template in which `{question}` stands for the question and
    `{options}` for its options, or the path of a file that holds one."""
    system: str
    """In place of the benchmark's system message; "" for none."""
    seed: int
    """Of the sampling; 0. The same seeds for every setting."""
    temperature: float
    """0 is greedy; 0.6."""
    top_p: float
    """0.95."""
    top_k: int
    """0: no limit; 20."""
    max_tokens: int | Mapping[str, int]
    """Most tokens per response, for several benchmarks also by their names. Without it the benchmark's own limit,
    lowered to what the model's context holds."""
    thinking_budget: int
    """Tokens after which a thought is closed."""
    budget_message: str
    """What is written before the tag that closes it."""
    think_tags: Sequence[tuple[str, str]]
    """Opening and closing delimiters of thoughts, where template and tokenizer do not name them."""
    allow: Sequence[str]
    """Refusals to overrule: rope, config, tokens, vocabulary, non-finite."""
    engine: Literal["local", "vllm", "vllm-server"]
    """`local`: transformers' models in this process. `vllm-server`: a server is started, which has a λ per request."""
    engine_options: Mapping[str, Any]
    """Arguments of `vllm.LLM`."""
    device: str
    """Of the local engine: auto, cpu, cuda, cuda:1 …"""
    dtype: str
    """Of the arithmetic: float32, bfloat16, float16; float32 on CPU, else the checkpoint's."""
    ends: str
    """Where both ends are kept: device, memory, files."""
    batch_size: int
    """Responses at once."""
    unrounded: bool
    """Θ(λ) without the rounding of a merged checkpoint: all λ in one batch."""
    trust_remote_code: bool
    """Run code that ships with the model."""
    endpoint: str | Endpoints
    """A server of OpenAI's API that answers in place of checkpoints; `{lambda}` stands for λ."""
    model: str
    """The model to ask it for, as in `name@{lambda}`."""
    server: Mapping[str, Any]
    """Further arguments of `mull.engines.remote.engine.RemoteEngine`, as in `{"concurrency": 64}`."""


Asked = str | Path | Benchmark | Sequence[str | Path | Benchmark]
"""A name of `mull benchmarks`, a data file, or a `Benchmark`; or several of them."""


class Planned(NamedTuple):
    """A plan and what answers it."""

    plan: SweepPlan
    loader: Loader
    warnings: list[str]
    """What differs between the sides of the pair, in sentences."""


_SAMPLING = ("temperature", "top_p", "top_k", "thinking_budget", "budget_message")
_COMPUTING = ("dtype", "ends", "batch_size", "unrounded", "trust_remote_code")
_OF_CHECKPOINTS = ("allow", "engine", "engine_options", "device", *_COMPUTING)
_OF_SERVERS = ("endpoint", "model", "server")


def plan_of(
    pair: Pair | None,
    benchmark: Asked,
    lambdas: str | Sequence[float],
    k: int,
    settings: Settings | None,
    others: Mapping[str, str | Path | Checkpoint],
    options: Options,
) -> Planned:
    """The plan of a run over `lambdas`, or over `settings`. No pair: the built-in one, unless a server answers.

    Raises:
        MullError: the pair cannot be mixed, a setting does not fit it, an option is unknown or out of its range, or
            options contradict each other.
    """
    given = cast(dict[str, Any], dict(options))
    unknown = sorted(set(given) - set(Options.__annotations__))
    if unknown:
        raise MullError(f"there is no argument {unknown[0]!r}", nearest(unknown[0], Options.__annotations__))
    benchmark = _load(benchmark, given)
    sampling, limits = _sampling(given, benchmark)
    tags = [ThinkTags(*each) for each in given["think_tags"]] if "think_tags" in given else None
    if any(name in given for name in _OF_SERVERS):
        return _of_servers(pair, benchmark, lambdas, k, settings, sampling, limits, tags, given)
    pair = pair or Pair.built_in()
    warnings = [each.what for each in pair.check(given.get("allow", ())) if each.code != "generation-config"]
    made = _settings(settings) if settings is not None else [_scalar(lam) for lam in _grid(lambdas)]
    own = {"seed": given.get("seed", 0), "others": others, "think_tags": tags, "limits": limits}
    plan = checked_plan(pair, made, benchmark, k, sampling, **own)
    if given.get("unrounded"):
        check_one_lambda_each(plan.settings, "unrounded arithmetic")
    return Planned(plan, _loader(given), warnings)


def checked_plan(
    pair: Pair,
    settings: Sequence[Setting],
    benchmark: Benchmark,
    k: int,
    sampling: Sampling,
    *,
    seed: int = 0,
    others: Mapping[str, str | Path | Checkpoint] | None = None,
    study: StudyKind | None = None,
    think_tags: Sequence[ThinkTags] | None = None,
    limits: Mapping[str, int] | None = None,
) -> SweepPlan:
    """A plan from checkpoints. `others`: further ones by role; they must fit the pair but for `ALLOWED`."""
    for role in others or {}:
        if role in ("instruct", "thinking"):
            raise MullError(f"a further checkpoint cannot be called {role!r}", "give it another name")
    opened = {
        role: each if isinstance(each, Checkpoint) else Checkpoint.open(str(each))
        for role, each in (others or {}).items()
    }
    for checkpoint in opened.values():
        Pair(checkpoint, pair.thinking).check(ALLOWED)
    own = {"others": opened, "study": study, "think_tags": think_tags, "limits": limits or {}}
    return SweepPlan(pair, settings, benchmark, k, sampling, seed, **own)


def _of_servers(
    pair: Pair | None,
    benchmark: Benchmark,
    lambdas: str | Sequence[float],
    k: int,
    settings: Settings | None,
    sampling: Sampling,
    limits: Mapping[str, int],
    tags: Sequence[ThinkTags] | None,
    given: Mapping[str, Any],
) -> Planned:
    refused = ["pair"] * (pair is not None) + ["settings"] * (settings is not None)
    refused += [name for name in (*_OF_CHECKPOINTS, "budget_message") if name in given]
    if refused:
        raise MullError(f"{', '.join(refused)} cannot be had from servers", "leave it out, or endpoint")
    endpoint = given.get("endpoint")
    if endpoint is None:
        raise MullError("model and server are for servers, and none is named", 'give endpoint="http://host:8000/v1"')
    if isinstance(endpoint, str):
        if "model" not in given:
            raise MullError("model is missing", "give model='name@{lambda}'")
        endpoint = Endpoints.pattern(endpoint, given["model"], _grid(lambdas))
    from mull.engines.remote.engine import RemoteEngine  # imports httpx, which only servers need

    plan = SweepPlan(
        None,
        [_scalar(lam) for lam in endpoint.lambdas],
        benchmark,
        k,
        sampling,
        given.get("seed", 0),
        "remote",
        endpoints=endpoint,
        think_tags=tags,
        limits=limits,
    )
    return Planned(plan, RemoteLoader(RemoteEngine(endpoint, **given.get("server", {}))), [])


def _load(benchmark: Asked, given: Mapping[str, Any]) -> Benchmark:
    if isinstance(benchmark, str):
        benchmark = names_in(benchmark)
    given_several = isinstance(benchmark, Sequence)
    data = given.get("data")
    return load_benchmarks(
        [str(each) if isinstance(each, Path) else each for each in (benchmark if given_several else [benchmark])],
        questions=given.get("questions"),
        seed=given.get("question_seed", 0),
        data={name: Path(file) for name, file in data.items()} if isinstance(data, Mapping) else data and Path(data),
        grader=given.get("grader"),
        prompt=given.get("prompt"),
        system=given.get("system"),
    )


def _sampling(given: Mapping[str, Any], benchmark: Benchmark) -> tuple[Sampling, dict[str, int]]:
    own = {name: given[name] for name in _SAMPLING if name in given}
    most, limits = token_limits(benchmark, given.get("max_tokens"))
    try:
        return Sampling(**own, max_tokens=most), limits
    except ValueError as error:
        raise MullError(str(error), "the defaults are temperature=0.6, top_p=0.95 and top_k=20") from None


def _loader(given: Mapping[str, Any]) -> Loader:
    shared = {name: given[name] for name in _COMPUTING if name in given}
    shared["strict"] = given.get("max_tokens") is not None
    engine = given.get("engine", "local")
    if engine in ("vllm", "vllm-server"):
        if "device" in given:
            raise MullError("vLLM finds its devices itself", "leave device out")
        served = engine == "vllm-server"
        return VllmLoader(options=given.get("engine_options", {}), served=served, **shared)
    if engine != "local":
        raise MullError(
            f"there is no engine {engine!r}", 'it is "local", "vllm" or "vllm-server"; endpoint="…" asks a server'
        )
    if "engine_options" in given:
        raise MullError('engine_options are for engine="vllm"', "leave them out")
    return LocalLoader(device=given.get("device", "auto"), **shared)


def _grid(lambdas: str | Sequence[float]) -> list[float]:
    """λ of "0:1:0.1" or of a list, sorted, each once."""
    return parse_lambdas(lambdas if isinstance(lambdas, str) else ",".join(map(repr, map(float, lambdas))))


def _scalar(lam: float) -> Setting:
    return Setting.of(Coefficients.scalar(lam))


def _settings(settings: Settings) -> list[Setting]:
    named = settings.items() if isinstance(settings, Mapping) else ((None, each) for each in settings)
    return [
        Setting.of(Coefficients.scalar(each) if isinstance(each, float | int) else each, name) for name, each in named
    ]
