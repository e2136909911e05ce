"""lm-eval's local-chat-completions on a small task of its own kind."""

import sys

import lm_eval
from lm_eval.tasks import TaskManager

found = lm_eval.simple_evaluate(
    model="local-chat-completions",
    model_args=f"model=mull@0.4,base_url={sys.argv[1]}/chat/completions,num_concurrent=4,max_retries=1",
    tasks=["sums"],
    task_manager=TaskManager(include_path="sums", include_defaults=False),
    apply_chat_template=True,
)
responses = [each["resps"][0][0] for each in found["samples"]["sums"]]
assert len(responses) == 4 and all("boxed" in each for each in responses), responses
print(found["results"]["sums"])
