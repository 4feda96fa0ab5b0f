"""mistral.rs, on safetensors.

It takes prompts as text and tells probabilities only of chats. A chat whose template is the message alone is a prompt.
"""

import os
from pathlib import Path

from . import Answer, Ask, Prompt

NAME = "mistralrs"
PACKAGES = ("mistralrs", "mistralrs-cuda", "mistralrs-metal")
NEEDS = ()
INSTALL = "pip install mistralrs"
NOISE = 1e-3  # float32 sums in another order: 1e-5 seen

TEMPLATE = "{{ messages[0]['content'] }}"


def load(folder: Path, scratch: Path) -> Ask:
    os.environ.setdefault("MISTRALRS_CPU_KV_F32", "1")  # float16 by default
    from mistralrs import ChatCompletionRequest, ModelDType, Runner, Which

    template = scratch / "prompt.jinja"
    template.write_text(TEMPLATE)
    runner = Runner(
        Which.Plain(str(folder), dtype=ModelDType.F32), prefix_cache_n=0, token_source="none",  # noqa: S106  # no token
        jinja_explicit=str(template),
    )  # fmt: skip

    def ask(prompt: Prompt, tokens: int) -> Answer:
        read = list(runner.tokenize_text(prompt["text"], True, None))
        if read != prompt["ids"]:
            raise ValueError(f"the prompt {prompt['text']!r} is read as the tokens {read}, not {prompt['ids']}")
        request = ChatCompletionRequest(
            [{"role": "user", "content": prompt["text"]}], model="default", logprobs=True, top_logprobs=1,
            max_tokens=tokens, temperature=0.0,
        )  # fmt: skip
        (choice,) = runner.send_chat_completion_request(request).choices
        steps = [
            step.top_logprobs[0] for step in choice.logprobs.content
        ]  # greedy: the first is the one that was taken
        return [step.token for step in steps], [step.logprob for step in steps]

    return ask
