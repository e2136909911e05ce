"""What `/metrics` tells a Prometheus: requests, tokens, queue, λ, and how long answers take."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_STEPS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)


class Metrics:
    """The figures of one server."""

    def __init__(self) -> None:
        self.registry = own = CollectorRegistry()
        self.requests = Counter("mull_requests", "Requests by route and status", ["route", "status"], registry=own)
        self.prompt_tokens = Counter("mull_prompt_tokens", "Prompt tokens read", registry=own)
        self.cached_tokens = Counter(
            "mull_cached_prompt_tokens", "Prompt tokens, of those read, that were not computed again", registry=own
        )
        self.tokens = Counter("mull_generated_tokens", "Tokens generated, by kind", ["kind"], registry=own)
        self.under_way = Gauge("mull_responses_under_way", "Responses generated or waiting", registry=own)
        tenths = [i / 10 for i in range(11)]
        self.lam = Histogram("mull_lambda", "λ of requests", ["source"], buckets=tenths, registry=own)
        self.lowered = Counter("mull_lambda_lowered", "λ of auto lowered under load", ["reason"], registry=own)
        for reason in ("queue", "target"):
            self.lowered.labels(reason)  # told as 0 before the first
        self.responses = Histogram(
            "mull_response_seconds", "From a request to the end of its response", buckets=_SECONDS, registry=own
        )
        self.first_token = Histogram(
            "mull_time_to_first_token_seconds", "From a request to its first token", buckets=_SECONDS, registry=own
        )
        self.between_tokens = Histogram(
            "mull_inter_token_seconds", "Between two tokens of a response", buckets=_STEPS, registry=own
        )
        self.corrected = Counter(
            "mull_streams_corrected", "Streams that told an answer as thought or vice versa", registry=own
        )
