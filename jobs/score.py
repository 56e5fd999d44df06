"""The entry point that scores outputs on a cluster: `python jobs/score.py judge OUTPUT ...`.

The same command line as `sfray eval`: judge, report, compare, submission.
"""

import sys

from sfray.cli.app import main

if __name__ == "__main__":
    sys.argv = [sys.argv[0], "eval", *sys.argv[1:]]
    main()
