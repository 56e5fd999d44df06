"""The fast engine: vLLM, fed with prompt embeddings.

vLLM holds the language model alone; visual tokens come from our vision side. Its prefix cache knows
blocks by a hash of their embeddings, so the questions of a video share what is before them.
Shape legend: L prefix positions, S suffix positions, W width.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
import uuid
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor
from vllm import SamplingParams
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.exceptions import VLLMError
from vllm.inputs import EmbedsPrompt
from vllm.outputs import CompletionOutput
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from sfray.config import GenerationSpec
from sfray.errors import CheckpointError, EngineLostError, RequestError
from sfray.model.engines.interface import Completion, Suffix, before_stops
from sfray.model.engines.vllm_plugin import only_the_language_model
from sfray.model.llava import Llava
from sfray.model.presets import ModelProfile
from sfray.model.prompt_tokens import PromptTokenizer

# Without a GPU, so many whole contexts of keys and values are held, if they take no more than this
# share of the machine's memory. With one, of a replica's share of the GPU this much is vLLM's and
# the vision side's together; the rest is slack for both allocators.
_CPU_CONTEXTS = 8
_CPU_MEMORY_SHARE = 0.25
_GPU_MEMORY_SHARE = 0.9


class VllmEngine:
    """Runs vLLM's engine on an event loop in a thread of its own; calls overlap."""

    def __init__(
        self,
        folder: Path,
        llava: Llava,
        tokenizer: PromptTokenizer,
        profile: ModelProfile,
        num_gpus: float,
    ) -> None:
        self._embed = llava.model.get_input_embeddings()
        self._device = llava.device
        self._tokenizer = tokenizer
        self._end_ids = llava.end_ids
        self._loop = asyncio.new_event_loop()
        arguments = AsyncEngineArgs(
            model=str(folder),
            skip_tokenizer_init=True,
            hf_overrides=only_the_language_model,
            load_format="safetensors",
            dtype=str(llava.model.dtype).removeprefix("torch."),
            max_model_len=profile.max_position_embeddings,
            enable_prompt_embeds=True,
            enable_prefix_caching=True,
            tensor_parallel_size=max(1, int(num_gpus)),
            disable_log_stats=True,
            **_memory(llava, profile, num_gpus),
        )
        self._thread = threading.Thread(target=self._loop.run_forever, name="vllm", daemon=True)
        self._thread.start()
        try:
            self._vllm = self._on_loop(_started(arguments)).result()
        except (VLLMError, ValueError, RuntimeError) as error:
            first = str(error).strip().splitlines()[0]
            raise CheckpointError(f"vLLM can't run the model in {folder}: {first}") from error
        atexit.register(self._close)

    async def complete(
        self, prefix_LW: Tensor, suffixes: list[Suffix], generation: GenerationSpec
    ) -> list[Completion | RequestError]:
        try:
            return await asyncio.wrap_future(
                self._on_loop(self._complete(prefix_LW.cpu(), suffixes, generation))
            )
        except EngineDeadError as error:
            raise EngineLostError("vLLM's engine has died") from error

    def _close(self) -> None:
        """The loop ends first, so that nobody is left to see the engine go."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._vllm.shutdown()

    def _on_loop(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _complete(
        self, prefix_LW: Tensor, suffixes: list[Suffix], generation: GenerationSpec
    ) -> list[Completion | RequestError]:
        """The first goes ahead: once it has a token, all of the prefix is in the cache."""
        begun = asyncio.Event()
        first, *others = suffixes
        ahead = asyncio.create_task(self._answer(prefix_LW, first, generation, begun))
        await begun.wait()
        rest = (self._answer(prefix_LW, suffix, generation) for suffix in others)
        return list(await asyncio.gather(ahead, *rest))

    async def _answer(
        self,
        prefix_LW: Tensor,
        suffix: Suffix,
        generation: GenerationSpec,
        begun: asyncio.Event | None = None,
    ) -> Completion | RequestError:
        try:
            output = await self._generate(prefix_LW, suffix, generation, begun)
        except EngineDeadError:
            raise
        except (VLLMError, ValueError) as error:  # of this request: it is too long, say
            return RequestError("engine_error", str(error).strip().splitlines()[0])
        finally:
            if begun is not None:
                begun.set()
        text = self._tokenizer.decode(list(output.token_ids))
        cut = before_stops(text, generation.stop)
        return Completion(
            token_ids=tuple(output.token_ids),
            text=cut.strip(),
            finish_reason="stop" if cut != text else output.finish_reason or "length",
            mean_logprob=(output.cumulative_logprob or 0.0) / len(output.token_ids),
        )

    async def _generate(
        self,
        prefix_LW: Tensor,
        suffix: Suffix,
        generation: GenerationSpec,
        begun: asyncio.Event | None,
    ) -> CompletionOutput:
        """The last output; a stop text ends it early, since vLLM itself has no tokenizer here."""
        with torch.inference_mode():
            ids_S = torch.tensor(suffix.token_ids, device=self._device)
            prompt_embeds = torch.cat([prefix_LW, self._embed(ids_S).cpu()])
        parameters = SamplingParams(
            temperature=generation.temperature,
            top_p=generation.top_p,
            seed=suffix.seed,
            max_tokens=generation.max_new_tokens,
            stop_token_ids=sorted(self._end_ids),
            logprobs=0,
            detokenize=False,
            # Word of each token only where somebody needs it.
            output_kind=RequestOutputKind.CUMULATIVE
            if begun is not None or generation.stop
            else RequestOutputKind.FINAL_ONLY,
        )
        prompt = EmbedsPrompt(prompt_embeds=prompt_embeds)
        stream = self._vllm.generate(prompt, parameters, request_id=uuid.uuid4().hex)
        output = None
        async for result in stream:
            output = result.outputs[0]
            if begun is not None:
                begun.set()
            if generation.stop:
                text = self._tokenizer.decode(list(output.token_ids))
                if before_stops(text, generation.stop) != text:
                    await stream.aclose()
                    break
        if output is None:
            raise ValueError("vLLM gave no output")
        return output


async def _started(arguments: AsyncEngineArgs) -> AsyncLLM:
    return AsyncLLM.from_engine_args(arguments)


def _memory(llava: Llava, profile: ModelProfile, num_gpus: float) -> dict[str, Any]:
    """What of the machine's memory vLLM may take, beside the vision side that is loaded already."""
    if llava.device.type == "cuda":
        _, total = torch.cuda.mem_get_info(llava.device)
        share = _GPU_MEMORY_SHARE * min(1.0, num_gpus)
        return {"gpu_memory_utilization": share - torch.cuda.memory_reserved(llava.device) / total}
    head_width = profile.hidden_size // profile.num_heads
    numbers = 2 * profile.num_layers * profile.num_kv_heads * head_width
    context = profile.max_position_embeddings * numbers * llava.model.dtype.itemsize
    limit = int(_CPU_MEMORY_SHARE * psutil.virtual_memory().total)
    return {"kv_cache_memory_bytes": min(limit, _CPU_CONTEXTS * context)}
