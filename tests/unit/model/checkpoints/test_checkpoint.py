"""Checkpoints in folders and in a hub cache, without a hub."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from sfray.config import ModelSpec, StorageSpec, parse_job_spec
from sfray.errors import CheckpointError
from sfray.model.checkpoints.find import find_checkpoint
from sfray.model.checkpoints.folder_checkpoint import demo_folder
from sfray.model.llava import Llava
from sfray.model.profile import read_profile
from sfray.model.prompt_tokens import PromptTokenizer

STORAGE = StorageSpec()
HUB_ID = "llava-hf/llava-v1.6-vicuna-7b-hf"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache with the tokenizer of a model, as a download leaves it."""
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / f"models--{HUB_ID.replace('/', '--')}"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    shutil.copy(demo_folder() / "tokenizer.json", snapshot)
    return tmp_path


def test_a_hub_revision_is_resolved_to_its_commit(hub_cache: Path) -> None:
    model = ModelSpec(id=HUB_ID)
    pinned = find_checkpoint(model, STORAGE).pinned().model
    assert pinned.revision == COMMIT
    assert find_checkpoint(pinned, STORAGE).pinned().model == pinned
    assert find_checkpoint(model, STORAGE).identity == (HUB_ID, COMMIT)
    folder = find_checkpoint(model, STORAGE).small_files()
    assert folder is not None
    assert PromptTokenizer.from_folder(folder).decode([]) == ""


def test_without_hub_and_cache_a_run_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    model = ModelSpec(id=HUB_ID, revision="main")
    assert find_checkpoint(model, STORAGE).small_files() is None
    assert find_checkpoint(model, STORAGE).identity == (HUB_ID, "main")
    with pytest.raises(CheckpointError, match="could not be fetched"):
        find_checkpoint(model, STORAGE).pinned()


def copied(folder: Path, **config: Any) -> Path:
    shutil.copytree(demo_folder(), folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return folder


def test_a_folder_is_told_by_what_is_in_it(tmp_path: Path) -> None:
    one = ModelSpec(id=str(copied(tmp_path / "one")))
    again = ModelSpec(id=str(copied(tmp_path / "again")))
    other = ModelSpec(id=str(copied(tmp_path / "other", note="another training")))
    revisions = [find_checkpoint(model, STORAGE).identity[1] for model in (one, again, other)]
    assert revisions[0] == revisions[1] != revisions[2]
    assert find_checkpoint(one, STORAGE).pinned().model == one


def test_weights_must_be_safetensors(tmp_path: Path) -> None:
    folder = copied(tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="safetensors"):
        find_checkpoint(ModelSpec(id=str(folder)), STORAGE).whole()


@pytest.mark.parametrize(
    ("template", "chat_format"),
    [
        ("<|im_start|>user {{ text }}<|im_end|>", "chatml"),
        ("[INST] {{ text }} [/INST]", "mistral_instruct"),
        ("USER: {{ text }} ASSISTANT:", "vicuna_v1"),
    ],
)
def test_the_chat_format_of_a_folder_is_that_of_its_template(
    tmp_path: Path, template: str, chat_format: str
) -> None:
    folder = copied(tmp_path / "model")
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    assert read_profile(folder).chat_format == chat_format


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = copied(tmp_path / "model")
    spec = parse_job_spec(
        {
            "manifest": {"uri": "unused"},
            "task": "qa",
            "model": {"id": str(folder)},
            "output": {"uri": "unused"},
        }
    )
    find_checkpoint(spec.model, STORAGE).check()
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary[next(iter(vocabulary))] = 40_000
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(CheckpointError, match=r"ids up to 40000.*vocabulary has \d+"):
        find_checkpoint(spec.model, STORAGE).check()


def test_weights_that_lack_a_tensor_are_refused(tmp_path: Path) -> None:
    folder = copied(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    lost = next(name for name in weights if "down_proj" in name)
    del weights[lost]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lack 1 tensors.*down_proj"):
        Llava(folder, "float32", read_profile(folder).patch_grid)


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    folder = copied(tmp_path / "model", architectures=["BertModel"])
    with pytest.raises(CheckpointError, match=r"BertModel.*LlavaNextForConditionalGeneration"):
        read_profile(folder)
