"""``python -m adaptis`` is the ``adaptis`` command."""
import sys

from adaptis.cli import main

if __name__ == '__main__':
    sys.exit(main())
