"""The tokenizer: byte-level BPE trained on what the world says, so that no word is unknown."""

from __future__ import annotations

from collections.abc import Iterator

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from sfray.demo.questions import CAPTION_PROMPT, questions
from sfray.demo.world import make_scene

VOCABULARY = 512
SPECIAL = ("<unk>", "<s>", "</s>", "<image>", "<pad>")


def make_tokenizer(template: str) -> PreTrainedTokenizerFast:
    """Begins every text with `<s>`, as Llama's tokenizers do."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(token, special=True) for token in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(template), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", SPECIAL.index("<s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        additional_special_tokens=["<image>"],
        clean_up_tokenization_spaces=False,
    )


def _texts(template: str) -> Iterator[str]:
    for seed in range(2000):
        scene = make_scene(seed)
        yield template.replace("{question}", CAPTION_PROMPT)
        yield " " + scene.caption
        for asked in questions(scene, seed=0):
            yield prompt_text(template, asked.question, asked.options)
            yield " " + asked.answer


def prompt_text(template: str, question: str, options: tuple[str, ...]) -> str:
    """The template filled in, as the product's templates do it."""
    lines = "\n".join(f"({'ABCD'[i]}) {option}" for i, option in enumerate(options))
    if lines:
        return template.replace("{options}", lines).replace("{question}", question)
    return template.replace("{options}\n", "").replace("{question}", question)
