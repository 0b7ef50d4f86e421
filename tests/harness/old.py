# SPDX-License-Identifier: BSD-2-Clause
"""A redis-server 6.0: no EXPIRE NX, no GETEX, COPY or SET EXAT, no key specs, no functions.

It is that of KEYWEIR_OLD_REDIS (a redis-server with its libraries in order), or what old-redis.sh has fetched.
"""
import glob
import os
import re
import subprocess

from .servers import TOP, Redis

FETCHED = os.path.join(TOP, "build/redis-6.0")


def _libraries():
    return dict(os.environ, LD_LIBRARY_PATH=":".join(glob.glob(os.path.join(FETCHED, "usr/lib/*-linux-gnu"))))


def binary():
    """Where it is; None: it is not here."""
    given = os.environ.get("KEYWEIR_OLD_REDIS")
    fetched = os.path.join(FETCHED, "usr/bin/redis-server")
    return given or (fetched if os.path.exists(fetched) else None)


def version():
    out = subprocess.run([binary(), "--version"], capture_output=True, text=True, env=_libraries(), timeout=10,
                         check=True)
    return tuple(int(n) for n in re.search(r"v=(\d+)\.(\d+)\.(\d+)", out.stdout).groups())


class OldRedis(Redis):
    def launch(self):
        self.spawn([binary(), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", self.folder,
                    *self.args],
                   env=_libraries())
        return self
