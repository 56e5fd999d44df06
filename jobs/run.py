"""The entry point for `ray job submit`: `python jobs/run.py SPEC.yaml [--set key=value ...]`.

The same command line as `sfray run`, on the cluster that the job runs in.
"""

import sys

from sfray.cli.app import main

if __name__ == "__main__":
    sys.argv = [sys.argv[0], "run", *sys.argv[1:]]
    main()
