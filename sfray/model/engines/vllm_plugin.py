"""What vLLM is told of a LLaVA checkpoint: it is the language model inside, and nothing else.

`register` is the entry point of the group `vllm.general_plugins`, which vLLM calls in each of its
processes. Imports neither vLLM nor torch by itself.
"""

from __future__ import annotations

from typing import Any

_CLASSES = {
    "llama": "LlamaInsideLlava",
    "mistral": "MistralInsideLlava",
    "qwen2": "Qwen2InsideLlava",
}


def register() -> None:
    """Makes the classes of `vllm_language_model` known, to be imported when needed."""
    from vllm import ModelRegistry

    for name in _CLASSES.values():
        ModelRegistry.register_model(name, f"sfray.model.engines.vllm_language_model:{name}")


def only_the_language_model(config: Any) -> Any:
    """The text config inside a LLaVA config, with the name of our class for it.

    Raises:
        ValueError: an architecture without such a class.
    """
    text = config.get_text_config()
    if text is config:  # vLLM also asks with a config that holds nothing
        return config
    if text.model_type not in _CLASSES:
        raise ValueError(
            f"language models of type {text.model_type!r} are not among: {', '.join(_CLASSES)}"
        )
    text.architectures = [_CLASSES[text.model_type]]
    return text
