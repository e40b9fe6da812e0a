"""The other side of `measuring.workers`: `python -m measuring.worker TASK`, TASK in JSON.

Says what it has prepared in one line of JSON, then the seconds of one run for each line that it reads.
"""

from __future__ import annotations

import json
import os
import sys

from measuring.contestants import CONTESTANTS
from measuring.timing import clocked


def main() -> None:
    """Prepare what the task names, and time it whenever asked to."""
    task = json.loads(sys.argv[1])
    with os.fdopen(os.dup(1), "w") as replies:
        os.dup2(2, 1)  # what libraries print goes to where it does not disturb
        contestant = CONTESTANTS[task.pop("kind")](**task)
        run = clocked(contestant.call, contestant.least)
        print(json.dumps(contestant.facts), file=replies, flush=True)
        for _ in sys.stdin:
            print(contestant.scale * run(), file=replies, flush=True)


if __name__ == "__main__":
    main()
