"""What secure layers have learnt, as it leaves the secure world: runtime_c/secure/sealed.h.

Synthetic nonces: the code over the state is what the key stream is drawn from, so the same state
gives the same bytes, and two states never share a stream.
"""

from __future__ import annotations

import hmac

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from ..errors import NotAuthentic
from ..toolchain.gate_view import CODE_BYTES

_OF_CODE, _OF_KEY = b"tinsmith sealed 1\0", b"tinsmith sealed 2\0"
_NO_NONCE = bytes(16)  # the block counter, and a nonce of zeros


def seal(key: bytes, base: bytes, state: bytes) -> bytes:
    """The blob: code [32], cipher. key: the device's for updates; base: base hash of the secure
    graph, 32 bytes."""
    code = hmac.digest(key, _OF_CODE + base + state, "sha256")
    return code + _covered(key, code, state)


def unseal(key: bytes, base: bytes, blob: bytes) -> bytes | None:
    """The state; None for a blob of zeros, which stands for that of compile time.

    Raises NotAuthentic for a blob of another device or model, or one that was changed.
    """
    if not any(blob):
        return None
    code, cipher = blob[:CODE_BYTES], blob[CODE_BYTES:]
    state = _covered(key, code, cipher)
    if not hmac.compare_digest(hmac.digest(key, _OF_CODE + base + state, "sha256"), code):
        raise NotAuthentic("what the secure layers have learnt is not of this device, or changed")
    return state


def _covered(key: bytes, code: bytes, data: bytes) -> bytes:
    stream = ChaCha20(hmac.digest(key, _OF_KEY + code, "sha256"), _NO_NONCE)
    return Cipher(stream, mode=None).encryptor().update(data)
