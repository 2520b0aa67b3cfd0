"""``python -m qcos.api [FD]``: the API process, started by the supervisor with its listening socket."""

import sys

from qcos.api.main import serve
from qcos.base.process import die_with_parent
from qcos.settings import read_settings

die_with_parent()
serve(read_settings(), fd=int(sys.argv[1]) if len(sys.argv) > 1 else None)
