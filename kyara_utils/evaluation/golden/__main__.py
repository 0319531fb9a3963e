"""`python -m kyara_utils.evaluation.golden [FOLDER]`: see `self_check`."""

import sys

from kyara_utils.evaluation.golden.self_check import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
