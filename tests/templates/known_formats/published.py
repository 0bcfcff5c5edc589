"""Chat templates in the published formats, and their output."""

from tests.templates import sources as templates


def by_role(system: str, user: str, assistant: str, answer: str, before: str = "") -> str:
    """Return a template with a form for each role's messages; ``%`` stands for the message's text."""
    branches = "".join(
        f"{{%- elif m.role == '{role}' %}}{{{{- {literal(text)} }}}}"
        for role, text in (("system", system), ("user", user), ("assistant", assistant))
    ).replace("elif", "if", 1)
    ending = f"{{%- if add_generation_prompt %}}{{{{- {literal(answer)} }}}}{{%- endif %}}"
    loop = f"{{%- for m in messages %}}{branches}{{%- endif %}}{{%- endfor %}}"
    return f"{before}{loop}{ending}"


def literal(text: str) -> str:
    parts = (repr(part) for part in text.replace("</s>", "\0").split("%"))
    return " + m.content + ".join(parts).replace(r"\x00", "' + eos_token + '")


ALTERNATING = (
    "{%- for m in messages %}{%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{- raise_exception('Roles must alternate') }}{%- endif %}{%- endfor %}"
)
MISTRAL = ALTERNATING + (
    "{{- bos_token }}{%- for m in messages %}{%- if m.role == 'user' %}"
    "{{- '[INST] ' ~ m.content ~ ' [/INST]' }}{%- else %}{{- m.content ~ eos_token }}{%- endif %}"
    "{%- endfor %}"
)
MISTRAL_V2 = MISTRAL.replace("m.content ~ eos", "' ' ~ m.content ~ eos")
LLAMA2 = """\
{%- set ns = namespace(system='') %}
{%- for m in messages %}
    {%- if m.role == 'system' %}
        {%- if not loop.first %}{{ raise_exception('The system message comes first') }}{% endif %}
        {%- set ns.system = '<<SYS>>\\n' + m.content + '\\n<</SYS>>\\n\\n' %}
    {%- elif m.role == 'user' %}
        {{- bos_token + '[INST] ' + ns.system + m.content | trim + ' [/INST]' }}
        {%- set ns.system = '' %}
    {%- else %}
        {{- ' ' + m.content | trim + ' ' + eos_token }}
    {%- endif %}
{%- endfor %}
"""
LLAMA3 = """\
{%- for m in messages %}
    {%- if loop.first %}{{ bos_token }}{% endif %}
    {{- '<|start_header_id|>' ~ m.role ~ '<|end_header_id|>\\n\\n' ~ m.content | trim ~ '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}
"""
GEMMA3 = """\
{{- bos_token }}
{%- set system = messages[0].content + '\\n\\n' if messages[0].role == 'system' else '' %}
{%- set messages = messages[1:] if system else messages %}
{%- for m in messages %}
    {%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('alternate!') }}{% endif %}
    {{- '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\\n' }}
    {{- (system if loop.first else '') + m.content | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}
"""
CHATML = (
    "{%- for m in messages %}{{- '<|im_start|>' ~ m.role ~ '\\n' ~ m.content ~ '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
PREAMBLE = "{{ bos_token + 'System: Be polite.\\n\\n' }}"
CODE_PREAMBLE = "{{ bos_token + 'You write code.\\n\\n' }}"
NO_SYSTEM = (
    "{% if messages | selectattr('role', 'equalto', 'system') | list %}{{ raise_exception('no') }}{% endif %}"
)
SOLAR = by_role("### System:\n%\n\n", "### User:\n%\n\n", "### Assistant:\n%", "### Assistant:\n")
ZEPHYR = by_role("<|system|>\n%</s>\n", "<|user|>\n%</s>\n", "<|assistant|>\n%</s>\n", "<|assistant|>\n")
OPENCHAT = (
    "{{ bos_token }}{% for m in messages %}{{ 'GPT4 Correct ' ~ m.role.title() ~ ': ' ~ m.content }}"
    "<|end_of_turn|>{% endfor %}{% if add_generation_prompt %}GPT4 Correct Assistant:{% endif %}"
)
MAGICODER = NO_SYSTEM + by_role(
    "", "@@ Instruction\n%\n\n", "@@ Response\n%</s>\n\n", "@@ Response\n", CODE_PREAMBLE
)
STARCODER2 = MAGICODER.replace("@@", "###")

# name, template, output for a system message S, a user's U, a reply A and a question Q
PUBLISHED = [
    (
        "alfred",
        by_role(
            "<start_system>%<end_message>",
            "<start_user>%<end_message>",
            "<start_assistant>%<end_message>",
            "<start_assistant>",
        ),
        (
            "<start_system>S<end_message><start_user>U<end_message><start_assistant>A<end_message>"
            "<start_user>Q<end_message><start_assistant>"
        ),
    ),
    (
        "alpaca",
        by_role("%\n\n", "### Instruction:\n%\n\n", "### Response:\n%\n\n", "### Response:\n"),
        "S\n\n### Instruction:\nU\n\n### Response:\nA\n\n### Instruction:\nQ\n\n### Response:\n",
    ),
    (
        "chatml",
        CHATML,
        (
            "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
            "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n"
        ),
    ),
    (
        "chatml",
        templates.SMOLLM2,
        (
            "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
            "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n"
        ),
    ),
    (
        "chatqa",
        NO_SYSTEM + by_role("", "User: %\n\n", "Assistant: %\n\n", "Assistant:", PREAMBLE),
        "System: Be polite.\n\nUser: S\n\nU\n\nAssistant: A\n\nUser: Q\n\nAssistant:",
    ),
    (
        "codellama-70b-instruct",
        "<s>"
        + by_role(
            "Source: system\n\n % <step> ",
            "Source: user\n\n % <step> ",
            "Source: assistant\n\n % <step> ",
            "Source: assistant\nDestination: user\n\n ",
        ),
        (
            "Source: system\n\n S <step> Source: user\n\n U <step> Source: assistant\n\n A <step> "
            "Source: user\n\n Q <step> Source: assistant\nDestination: user\n\n "
        ),
    ),
    (
        "command-r",
        by_role(
            "<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>%<|END_OF_TURN_TOKEN|>",
            "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>%<|END_OF_TURN_TOKEN|>",
            "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>%<|END_OF_TURN_TOKEN|>",
            "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
        ),
        (
            "<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>S<|END_OF_TURN_TOKEN|>"
            "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>U<|END_OF_TURN_TOKEN|>"
            "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>A<|END_OF_TURN_TOKEN|>"
            "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>Q<|END_OF_TURN_TOKEN|>"
            "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>"
        ),
    ),
    (
        "falcon-instruct",
        by_role("System: %\n", "User: %\n", "Falcon: %\n", "Falcon:"),
        "System: S\nUser: U\nFalcon: A\nUser: Q\nFalcon:",
    ),
    (
        "gemma-instruct",
        templates.GEMMA,
        (
            "<start_of_turn>user\nS\n\nU<end_of_turn>\n<start_of_turn>model\nA<end_of_turn>\n"
            "<start_of_turn>user\nQ<end_of_turn>\n<start_of_turn>model\n"
        ),
    ),
    (
        "gemma3-instruct",
        GEMMA3,
        (
            "<start_of_turn>user\nS\n\nU<end_of_turn>\n<start_of_turn>model\nA<end_of_turn>\n"
            "<start_of_turn>user\nQ<end_of_turn>\n<start_of_turn>model\n"
        ),
    ),
    (
        "granite-instruct",
        by_role("System:\n%\n\n", "Question:\n%\n\n", "Answer:\n%\n\n", "Answer:\n"),
        "System:\nS\n\nQuestion:\nU\n\nAnswer:\nA\n\nQuestion:\nQ\n\nAnswer:\n",
    ),
    (
        "llama2-chat",
        LLAMA2,
        "[INST] <<SYS>>\nS\n<</SYS>>\n\nU [/INST] A </s><s>[INST] Q [/INST]",
    ),
    (
        "llama3-instruct",
        LLAMA3,
        (
            "<|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
            "U<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nA<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nQ<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n"
        ),
    ),
    (
        "magicoder",
        MAGICODER,
        (
            "You write code.\n\n@@ Instruction\nS\n\nU\n\n@@ Response\nA</s>\n\n"
            "@@ Instruction\nQ\n\n@@ Response\n"
        ),
    ),
    ("mistral-instruct", MISTRAL, "[INST] S\n\nU [/INST]A</s>[INST] Q [/INST]"),
    ("mistral-instruct", MISTRAL_V2, "[INST] S\n\nU [/INST] A</s>[INST] Q [/INST]"),
    (
        "openchat",
        OPENCHAT,
        (
            "GPT4 Correct System: S<|end_of_turn|>GPT4 Correct User: U<|end_of_turn|>"
            "GPT4 Correct Assistant: A<|end_of_turn|>GPT4 Correct User: Q<|end_of_turn|>"
            "GPT4 Correct Assistant:"
        ),
    ),
    (
        "phi-3",
        (
            "{% for m in messages %}{{ '<|' ~ m.role ~ '|>\\n' ~ m.content ~ '<|end|>\\n' }}{% endfor %}"
            "{{ '<|assistant|>\\n' }}"
        ),
        "<|system|>\nS<|end|>\n<|user|>\nU<|end|>\n<|assistant|>\nA<|end|>\n<|user|>\nQ<|end|>\n<|assistant|>\n",
    ),
    (
        "phi-3",
        by_role("", "<|user|>\n%<|end|>\n<|assistant|>\n", "%<|end|>\n", ""),
        "<|user|>\nS\n\nU<|end|>\n<|assistant|>\nA<|end|>\n<|user|>\nQ<|end|>\n<|assistant|>\n",
    ),
    (
        "solar-instruct",
        SOLAR,
        "### System:\nS\n\n### User:\nU\n\n### Assistant:\nA### User:\nQ\n\n### Assistant:\n",
    ),
    (
        "starcoder2-instruct",
        STARCODER2,
        (
            "You write code.\n\n### Instruction\nS\n\nU\n\n### Response\nA<|endoftext|>\n\n"
            "### Instruction\nQ\n\n### Response\n"
        ),
    ),
    (
        "zephyr",
        ZEPHYR,
        "<|system|>\nS</s>\n<|user|>\nU</s>\n<|assistant|>\nA</s>\n<|user|>\nQ</s>\n<|assistant|>\n",
    ),
    (
        "vicuna",
        by_role("% ", "USER: % ", "ASSISTANT: %</s>", "ASSISTANT:"),
        "S USER: U ASSISTANT: A</s>USER: Q ASSISTANT:",
    ),
]
