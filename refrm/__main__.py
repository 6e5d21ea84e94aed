"""The command `refrm`, also as `python -m refrm`."""

import os
import sys

# Threads of BLAS that wait for each other cost more than they bring to small matrices, and with one the bits
# do not depend on the machine's number of cores. Set the variable to decide otherwise.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def main() -> None:
    """Run the command line, or say what is missing."""
    try:
        from refrm.cli import run
    except ModuleNotFoundError as error:
        if error.name not in ("click", "rich", "matplotlib"):
            raise
        print(f"refrm: error: the command line needs {error.name}: pip install 'refrm[cli]'", file=sys.stderr)
        sys.exit(2)
    run()


if __name__ == "__main__":
    main()
