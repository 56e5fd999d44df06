import json

import pytest
from safetensors import safe_open
from tokenizers import Tokenizer

from sfray.demo.world import make_scene
from sfray.model.checkpoints.folder_checkpoint import demo_folder


def test_the_folder_is_small_and_holds_no_pickles() -> None:
    files = [path for path in demo_folder().iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 8 * 10**6
    assert {path.suffix for path in files} == {".json", ".md", ".safetensors"}


def test_it_is_a_llava_next_checkpoint_with_all_its_weights() -> None:
    config = json.loads((demo_folder() / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["LlavaNextForConditionalGeneration"]
    with safe_open(demo_folder() / "model.safetensors", "np") as weights:
        names = list(weights.keys())
    for part in ("vision_tower", "multi_modal_projector", "language_model"):
        assert any(part in name for name in names)


@pytest.mark.parametrize(
    "text", [" " + make_scene(3).caption, " It is an orange cross.", " (B) two\n", " Ünknown 漢字?"]
)
def test_any_text_comes_back_from_its_tokens_with_its_blanks(text: str) -> None:
    tokenizer = Tokenizer.from_file(str(demo_folder() / "tokenizer.json"))
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=True) == text
