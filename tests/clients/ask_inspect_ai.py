"""inspect_ai's OpenAI provider on a small task."""

import sys
import tempfile

from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import GenerateConfig, get_model
from inspect_ai.scorer import includes
from inspect_ai.solver import generate

SUMS = ((3, 4, 5, 6, 7), (1, 2, 3, 4, 5), (9, 8, 7, 6, 5), (2, 2, 2, 2, 2))
samples = [
    Sample(input=f"What is the sum of {' '.join(map(str, numbers))}?", target=f"boxed{{{sum(numbers)}}}")
    for numbers in SUMS
]
model = get_model(
    "openai/mull@0.4",
    base_url=sys.argv[1],
    api_key="none",
    config=GenerateConfig(temperature=0),
    responses_api=False,  # its default is /v1/responses, which the server refuses
)
(log,) = eval(
    Task(dataset=samples, solver=generate(), scorer=includes()),
    model=model,
    log_dir=tempfile.mkdtemp(),
    display="none",
)
assert log.status == "success", log.error.message
assert len(log.samples) == len(SUMS) and all("boxed" in each.output.completion for each in log.samples)
print("accuracy", log.results.scores[0].metrics["accuracy"].value)
