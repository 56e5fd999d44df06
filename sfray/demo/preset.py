"""How the demonstration model looks at a video."""

from sfray.pooling import SlowFastPooling, SlowPool

NUM_FRAMES = 8
POOLING = SlowFastPooling(num_slow_frames=4, slow_pool=SlowPool.MAX_1D, fast_grid=(4, 4))
TEMPLATE = "demo"
