"""A scheduler or server of MXNet, for a process with that role in ``DMLC_ROLE``.

MXNet would serve during its import, and would accept pickled optimizers from anyone who can reach
its port.  This module imports it without a role and rejects them; the workers update the
parameters.
"""
from __future__ import annotations

import ctypes
import os
import sys

from adaptis.errors import AdaptisError


def main() -> int:
    """Serve until the workers have ended."""
    role = os.environ.pop('DMLC_ROLE')
    try:
        from adaptis.runtime import mx  # imported only now, without the role
    except AdaptisError as error:
        print(error, file=sys.stderr)
        return 1
    os.environ['DMLC_ROLE'] = role
    prototype = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
    try:
        store = mx.kv.create('dist')
        mx.base.check_call(mx.base._LIB.MXKVStoreRunServer(store.handle, prototype(_refuse), None))
    except mx.base.MXNetError as error:
        reason = str(error).splitlines()[-1].rpartition(' : ')[2]
        print(f'The {role} at {os.environ.get("DMLC_PS_ROOT_URI")} port '
              f'{os.environ.get("DMLC_PS_ROOT_PORT")} stopped: {reason}.', file=sys.stderr)
        return 1
    return 0


def _refuse(command: int, body: bytes, unused: object) -> None:
    print(f'The {os.environ["DMLC_ROLE"]} rejected command {command}.', file=sys.stderr)


if __name__ == '__main__':
    sys.exit(main())
