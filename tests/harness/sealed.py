# SPDX-License-Identifier: BSD-2-Clause
"""Opens what Keyweir sealed, as src/policy/seal.h describes it."""
import base64
import ctypes
import ctypes.util

MAGIC_LEN, NONCE, TAG, KEY = 4, 24, 16, 32


class Ring:
    """`keys`: as in [encryption], "NAME:BASE64"."""

    def __init__(self, keys):
        self.lib = ctypes.CDLL(ctypes.util.find_library("sodium"))
        assert self.lib.sodium_init() >= 0
        self.keys = {}
        for key in keys:
            name, _, secret = key.partition(":")
            derived = ctypes.create_string_buffer(KEY)
            self.lib.crypto_kdf_derive_from_key(derived, ctypes.c_size_t(KEY), ctypes.c_uint64(1), b"keyweir\0",
                                                base64.b64decode(secret))
            self.keys[name.encode()] = derived.raw

    def open(self, kind, key, field, sealed):
        """The plain value; kind: b"s", b"h", b"l", b"x". ValueError when it does not open."""
        head = MAGIC_LEN + 1 + sealed[MAGIC_LEN]
        secret = self.keys[sealed[MAGIC_LEN + 1:head]]
        field = field or b""
        bound = (sealed[:head] + kind + len(key).to_bytes(8, "little") + key + len(field).to_bytes(8, "little") + field)
        nonce, body = sealed[head:head + NONCE], sealed[head + NONCE:]
        out = ctypes.create_string_buffer(max(len(body) - TAG, 1))
        if self.lib.crypto_aead_xchacha20poly1305_ietf_decrypt(
                out, None, None, body, ctypes.c_ulonglong(len(body)), bound, ctypes.c_ulonglong(len(bound)), nonce, secret):
            raise ValueError("it does not open")
        return out.raw[:len(body) - TAG]
