"""Captions without a job file of your own, for `ray job submit`:
`python jobs/caption.py --set manifest.uri=MANIFEST --set output.uri=OUTPUT`.

The same command line as `sfray run` on specs/caption_7b_auto.yaml; `--set` reaches all of it.
"""

import sys
from pathlib import Path

from sfray.cli.app import main

SPEC = Path(__file__).parent / "specs" / "caption_7b_auto.yaml"

if __name__ == "__main__":
    sys.argv = [sys.argv[0], "run", str(SPEC), *sys.argv[1:]]
    main()
