"""The bits of a watermark: a checksum, and a code that corrects errors, read from soft values.

The convolutional code of constraint length 9 and rate 1/3 is that of 3GPP TS 25.212, section 4.2.3.1; it is decoded by the
algorithm of Viterbi (IEEE Transactions on Information Theory 13, 1967). The checksum is CRC-16 of ITU-T V.41, which begins with
ones, so that a picture without any pattern, which reads as zeros, has a wrong one.
"""

from binascii import crc_hqx

import numpy as np
import numpy.typing as npt

PAYLOAD_BYTES = 8

_CHECKSUM_BYTES = 2
_MESSAGE_BITS = 8 * (PAYLOAD_BYTES + _CHECKSUM_BYTES)
_GENERATORS = (0o557, 0o663, 0o711)
_MEMORY = 8
_STATES = 1 << _MEMORY

CODED_BITS = len(_GENERATORS) * (_MESSAGE_BITS + _MEMORY)

# The register holds the newest bit on top, above the bits of the state.
_REGISTERS = np.arange(2 * _STATES)
_OUTPUTS = np.array(
    [
        [1 - 2 * ((register & generator).bit_count() % 2) for generator in _GENERATORS]
        for register in range(2 * _STATES)
    ],
    np.float32,
)


def encode(payload: bytes) -> npt.NDArray[np.float32]:
    """Return the `CODED_BITS` of `PAYLOAD_BYTES` bytes, as 1 for a 0 and -1 for a 1."""
    message = payload + _checksum(payload)
    bits = [*np.unpackbits(np.frombuffer(message, np.uint8)).tolist(), *[0] * _MEMORY]
    outputs, state = [], 0
    for bit in bits:
        register = bit << _MEMORY | state
        outputs.append(_OUTPUTS[register])
        state = register >> 1
    return np.concatenate(outputs)


def decode(soft: npt.NDArray[np.floating]) -> bytes | None:
    """Return the payload that is most likely with these soft values of the coded bits. None: its checksum is wrong."""
    gains = soft.reshape(-1, len(_GENERATORS)).astype(np.float32) @ _OUTPUTS.T
    before = _REGISTERS & (_STATES - 1)
    scores = np.full(_STATES, -np.inf, np.float32)
    scores[0] = 0
    choices = []
    for gain in gains:
        # Two registers lead to each state; they differ in the bit that leaves.
        first, second = (scores[before] + gain).reshape(_STATES, 2).T
        choices.append(second > first)
        scores = np.maximum(first, second)
    state, bits = 0, []
    for choice in reversed(choices):
        bits.append(state >> (_MEMORY - 1))
        state = (state << 1 | int(choice[state])) & (_STATES - 1)
    message = np.packbits(bits[: _MEMORY - 1 : -1]).tobytes()
    payload = message[:PAYLOAD_BYTES]
    return payload if message[PAYLOAD_BYTES:] == _checksum(payload) else None


def _checksum(payload: bytes) -> bytes:
    return crc_hqx(payload, 0xFFFF).to_bytes(_CHECKSUM_BYTES, "big")
