"""Table of the named chat formats: the texts around each message, and the stop texts.

Names, order and stop texts are Ollama's; if the models of one name were trained on several formats, each
has a row. Source: ollama: template/index.json; the chat templates of the models.
"""

from dataclasses import dataclass, replace
from typing import Final

BOS: Final = "\ue000"
EOS: Final = "\ue001"
"""Placeholders in a format for the begin-of-sequence and end-of-sequence tokens."""

Frame = tuple[str, str]
"""Texts before and after a message's content."""


@dataclass(frozen=True)
class Format:
    """Chat format.

    ``answer`` is the text before the model's reply. With ``system_in_user`` the system text and its frame
    are put into the next user message, before its content. ``refuses_system``: the format is only that of
    templates that reject system messages. ``bos`` and ``eos`` are the usual tokens of the format's
    models.
    """

    name: str
    stop: tuple[str, ...]
    system: Frame
    user: Frame
    assistant: Frame
    answer: str
    system_in_user: bool = False
    refuses_system: bool = False
    bos: str = "<s>"
    eos: str = "</s>"


_BEFORE_TEXT: Final = ("", "\n\n")
_CHATML_STOP = ("<|im_start|>", "<|im_end|>")
_ALPACA_STOP = ("### Instruction:", "### Response")
_CHATQA_STOP = ("System:", "User:", "Assistant:", "<|begin_of_text|>")
_FALCON_STOP = ("User:", "Assistant:")
_GEMMA_USER = ("<start_of_turn>user\n", "<end_of_turn>\n")
_GEMMA_MODEL = ("<start_of_turn>model\n", "<end_of_turn>\n")
_PHI3_STOP = ("<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
_ZEPHYR_STOP = ("<|system|>", "</s>", "<|user|>", "<|assistant|>")
_VICUNA_STOP = ("USER:", "ASSISTANT:")


def _mistral(user: Frame, assistant: Frame) -> Format:
    return Format("mistral-instruct", _CHATML_STOP, _BEFORE_TEXT, user, assistant, "", system_in_user=True)


FORMATS: Final = (
    Format(
        "alfred",
        ("<start_system>", "<end_message>", "<start_user>", "<start_assistant>"),
        system=("<start_system>", "<end_message>"),
        user=("<start_user>", "<end_message>"),
        assistant=("<start_assistant>", "<end_message>"),
        answer="<start_assistant>",
    ),
    Format(
        "alpaca",
        _ALPACA_STOP,
        system=("", "\n\n"),
        user=("### Instruction:\n", "\n\n"),
        assistant=("### Response:\n", "\n\n"),
        answer="### Response:\n",
    ),
    # The models of deepseek-coder.
    Format(
        "alpaca",
        _ALPACA_STOP,
        system=("", ""),
        user=("### Instruction:\n", "\n"),
        assistant=("### Response:\n", "\n<|EOT|>\n"),
        answer="### Response:\n",
    ),
    Format(
        "chatml",
        _CHATML_STOP,
        system=("<|im_start|>system\n", "<|im_end|>\n"),
        user=("<|im_start|>user\n", "<|im_end|>\n"),
        assistant=("<|im_start|>assistant\n", "<|im_end|>\n"),
        answer="<|im_start|>assistant\n",
    ),
    Format(
        "chatqa",
        _CHATQA_STOP,
        system=_BEFORE_TEXT,
        user=("User: ", "\n\n"),
        assistant=("Assistant: ", "\n\n"),
        answer="Assistant:",
        system_in_user=True,
        eos="<|end_of_text|>",
    ),
    Format(
        "chatqa",
        _CHATQA_STOP,
        system=("", "\n\n"),
        user=("User: ", "\n\n"),
        assistant=("Assistant: ", EOS),
        answer="Assistant:",
        eos="<｜end▁of▁sentence｜>",
    ),
    Format(
        "codellama-70b-instruct",
        ("Source:", "Destination:", "<step>"),
        system=("Source: system\n\n ", " <step> "),
        user=("Source: user\n\n ", " <step> "),
        assistant=("Source: assistant\n\n ", " <step> "),
        answer="Source: assistant\nDestination: user\n\n ",
    ),
    Format(
        "command-r",
        ("<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>"),
        system=("<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>", "<|END_OF_TURN_TOKEN|>"),
        user=("<|START_OF_TURN_TOKEN|><|USER_TOKEN|>", "<|END_OF_TURN_TOKEN|>"),
        assistant=("<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>", "<|END_OF_TURN_TOKEN|>"),
        answer="<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
    ),
    Format(
        "falcon-instruct",
        _FALCON_STOP,
        system=("System: ", "\n"),
        user=("User: ", "\n"),
        assistant=("Falcon: ", "\n"),
        answer="Falcon:",
    ),
    Format(
        "falcon-instruct",
        _FALCON_STOP,
        system=("System: ", "\n"),
        user=("User: \n", "\n"),
        assistant=("Falcon:\n", "\n"),
        answer="Falcon:\n",
    ),
    Format(
        "gemma-instruct",
        ("<start_of_turn>", "<end_of_turn>"),
        system=_BEFORE_TEXT,
        user=_GEMMA_USER,
        assistant=_GEMMA_MODEL,
        answer="<start_of_turn>model\n",
        system_in_user=True,
        refuses_system=True,
    ),
    Format(
        "gemma3-instruct",
        ("<end_of_turn>",),
        system=_BEFORE_TEXT,
        user=_GEMMA_USER,
        assistant=_GEMMA_MODEL,
        answer="<start_of_turn>model\n",
        system_in_user=True,
    ),
    Format(
        "granite-instruct",
        ("System:", "Question:", "Answer:"),
        system=("System:\n", "\n\n"),
        user=("Question:\n", "\n\n"),
        assistant=("Answer:\n", "\n\n"),
        answer="Answer:\n",
    ),
    Format(
        "llama2-chat",
        ("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"),
        system=("<<SYS>>\n", "\n<</SYS>>\n\n"),
        user=("[INST] ", " [/INST]"),
        # The token that begins each turn is the tokenizer's work for the first one.
        assistant=(" ", f" {EOS}{BOS}"),
        answer="",
        system_in_user=True,
    ),
    Format(
        "llama3-instruct",
        ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        system=("<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>"),
        user=("<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>"),
        assistant=("<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>"),
        answer="<|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    Format(
        "magicoder",
        ("@@ Instruction", "@@ Response"),
        system=_BEFORE_TEXT,
        user=("@@ Instruction\n", "\n\n"),
        assistant=("@@ Response\n", f"{EOS}\n\n"),
        answer="@@ Response\n",
        system_in_user=True,
    ),
    _mistral(user=("[INST] ", " [/INST]"), assistant=("", EOS)),
    _mistral(user=("[INST] ", " [/INST]"), assistant=("", f"{EOS} ")),
    _mistral(user=("[INST] ", " [/INST]"), assistant=(" ", EOS)),
    _mistral(user=(" [INST] ", " [/INST]"), assistant=(" ", EOS)),
    Format(
        "openchat",
        ("<|end_of_turn|>",),
        system=("GPT4 Correct System: ", "<|end_of_turn|>"),
        user=("GPT4 Correct User: ", "<|end_of_turn|>"),
        assistant=("GPT4 Correct Assistant: ", "<|end_of_turn|>"),
        answer="GPT4 Correct Assistant:",
    ),
    Format(
        "phi-3",
        _PHI3_STOP,
        system=("<|system|>\n", "<|end|>\n"),
        user=("<|user|>\n", "<|end|>\n"),
        assistant=("<|assistant|>\n", "<|end|>\n"),
        answer="<|assistant|>\n",
    ),
    Format(
        "phi-3",
        _PHI3_STOP,
        system=_BEFORE_TEXT,
        user=("<|user|>\n", "<|end|>\n"),
        assistant=("<|assistant|>\n", "<|end|>\n"),
        answer="<|assistant|>\n",
        system_in_user=True,
    ),
    Format(
        "solar-instruct",
        ("### System:", "### User:", "### Assistant"),
        system=("### System:\n", "\n\n"),
        user=("### User:\n", "\n\n"),
        assistant=("### Assistant:\n", ""),
        answer="### Assistant:\n",
    ),
    Format(
        "starcoder2-instruct",
        ("### Instruction", "### Response", "<|endoftext|>"),
        system=_BEFORE_TEXT,
        user=("### Instruction\n", "\n\n"),
        assistant=("### Response\n", f"{EOS}\n\n"),
        answer="### Response\n",
        system_in_user=True,
        eos="<|endoftext|>",
    ),
    Format(
        "zephyr",
        _ZEPHYR_STOP,
        system=("<|system|>\n", f"{EOS}\n"),
        user=("<|user|>\n", f"{EOS}\n"),
        assistant=("<|assistant|>\n", f"{EOS}\n"),
        answer="<|assistant|>\n",
    ),
    Format(
        "zephyr",
        _ZEPHYR_STOP,
        system=_BEFORE_TEXT,
        user=("<|user|>\n", "\n"),
        assistant=("<|assistant|>\n", f"{EOS}\n"),
        answer="<|assistant|>\n",
        system_in_user=True,
    ),
    Format(
        "vicuna",
        _VICUNA_STOP,
        system=("", " "),
        user=("USER: ", " "),
        assistant=("ASSISTANT: ", EOS),
        answer="ASSISTANT:",
    ),
    Format(
        "vicuna",
        _VICUNA_STOP,
        system=("", "\n\n"),
        user=("USER: ", "\n"),
        assistant=("ASSISTANT: ", f"{EOS}\n"),
        answer="ASSISTANT:",
    ),
)


def with_tokens(form: Format, bos: str, eos: str) -> Format:
    """Return ``form`` with the texts of a model's begin-of-sequence and end-of-sequence tokens."""

    def fill(frame: Frame) -> Frame:
        before, after = (text.replace(BOS, bos).replace(EOS, eos) for text in frame)
        return before, after

    return replace(
        form,
        system=fill(form.system),
        user=fill(form.user),
        assistant=fill(form.assistant),
        bos=bos,
        eos=eos,
    )
