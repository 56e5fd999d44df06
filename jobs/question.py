"""A manifest's questions without a job file of your own, for `ray job submit`:
`python jobs/question.py --set manifest.uri=MANIFEST --set output.uri=OUTPUT`.

The same command line as `sfray run` on specs/qa_7b_auto.yaml; `--set` reaches all of it, such as
`--set task=multiple_choice` where the questions have options.
"""

import sys
from pathlib import Path

from sfray.cli.app import main

SPEC = Path(__file__).parent / "specs" / "qa_7b_auto.yaml"

if __name__ == "__main__":
    sys.argv = [sys.argv[0], "run", str(SPEC), *sys.argv[1:]]
    main()
