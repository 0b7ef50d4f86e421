#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# The generated command table is what its generator makes.
exec /usr/bin/python3 "$(dirname "$0")/../../src/command/gen.py" --check
