"""Profiles one video with its questions in a fresh process; prints peaks of allocated bytes.

    python memory_profile.py CHECKPOINT NUM_FRAMES NUM_REQUESTS NUM_TEXT_TOKENS NUM_NEW_TOKENS

Torch's profiler reports every allocation of its thread with the bytes allocated then, so the engine
takes its turns in the main thread here. The weights are copied under it, since those that were read
lie in a map of their file.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile, record_function

from sfray.config import GenerationSpec
from sfray.model.engines import transformers as transformers_engine
from sfray.model.engines.interface import Suffix
from sfray.model.llava import Llava
from sfray.model.profile import read_profile
from sfray.model.prompt_tokens import PromptTokenizer
from sfray.pooling import SlowFastPooling


def main() -> None:
    folder = Path(sys.argv[1])
    num_frames, num_requests, num_text, num_new = map(int, sys.argv[2:])
    sizes = read_profile(folder)
    llava = Llava(folder, "float32", sizes.patch_grid)
    side = sizes.image_size
    frames_THWC = np.random.default_rng(0).integers(0, 256, (num_frames, side, side, 3), np.uint8)
    with patch.object(transformers_engine.threading, "Thread"):
        engine = transformers_engine.TransformersEngine(llava, PromptTokenizer.from_folder(folder))
    suffixes = [Suffix(token_ids=[5] * num_text, seed=n) for n in range(num_requests)]
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        with torch.no_grad():
            for parameter in llava.model.parameters():
                parameter.data = parameter.data.clone()
        with record_function("phase: vision"):
            visual_LW = llava.visual_tokens(frames_THWC, SlowFastPooling())
        with record_function("phase: engine"):
            prefix_LW = visual_LW.clone()
            job = transformers_engine._Job(
                prefix_LW, suffixes, GenerationSpec(max_new_tokens=num_new)
            )
            engine._arriving.put(job)
            while not job.future.done():
                engine._turn()
    trace = folder / "trace.json"
    profiled.export_chrome_trace(str(trace))
    events = json.loads(trace.read_text())["traceEvents"]
    begun = {e["name"]: e["ts"] for e in events if e["name"].startswith("phase: ")}
    peaks = {"weights": 0, "vision": 0, "engine": 0}
    for event in events:
        if event["name"] == "[memory]":
            phase = "weights"
            for name in ("vision", "engine"):
                if event["ts"] >= begun[f"phase: {name}"]:
                    phase = name
            peaks[phase] = max(peaks[phase], event["args"]["Total Allocated"])
    print(json.dumps(peaks))


if __name__ == "__main__":
    main()
