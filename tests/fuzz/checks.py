"""What each protocol's own check lets through, by how it is made: the most that the campaign may
find taken of what it damaged.

A third of the damage is one to three flipped bits, whose chance is counted out; four ninths change
what a frame holds or how long it is, which a check of n bits lets pass once in 2^n. Frames that are
said twice or swapped are whole: a check says nothing about them, and only where several frames make
one value (`ORDER`) does their order matter.
"""

from __future__ import annotations

from dataclasses import dataclass

from scipy.stats import binom

FLIPPED, CHANGED, MOVED = 3 / 9, 4 / 9, 2 / 9  # of the damage, as `corrupt.DAMAGES` has it
SEEN = None  # the weight of a bit that is fixed
CHANCE = 1e-6  # that more than the bound is taken by a decoder that is right


@dataclass(frozen=True)
class Check:
    """`passes` is the share of damaged frames that it cannot tell from whole ones, at most."""

    name: str
    passes: float

    def most(self, damaged: int) -> int:
        """How many of so many frames may be taken."""
        return int(binom.isf(CHANCE, damaged, self.passes))


def unseen_flips(weights: list[int | None], modulus: int) -> float:
    """The chance that one, two or three flips leave a sum as it is; a bit adds its weight or takes
    it away."""
    step: dict[int, float] = {}
    for weight in weights:
        for signed in () if weight is None else (weight, -weight):
            step[signed % modulus] = step.get(signed % modulus, 0.0) + 0.5 / len(weights)
    sums, total = {0: 1.0}, 0.0
    for _ in range(3):
        after: dict[int, float] = {}
        for at, chance in sums.items():
            for by, share in step.items():
                after[(at + by) % modulus] = after.get((at + by) % modulus, 0.0) + chance * share
        sums = after
        total += sums.get(0, 0.0) / 3
    return total


BYTE = [1 << bit for bit in range(8)]
# Mindray's packet: two bytes with the head and the sum of the low halves of the other four, whose
# upper halves nothing covers but bit 7.
HALVES = [SEEN] * 12 + [1, 2, 4, 8] + 4 * [1, 2, 4, 8, 0, 0, 0, SEEN]
SUM8_PASSES = FLIPPED * unseen_flips([*BYTE], 256) + CHANGED / 2**8
# Nonin's numbers are made of frames 1 to 3 of 25, which carry no number of their own: one of them
# that is swapped, said twice or torn at its first byte is not missed before the packet's end.
ORDER = 3 / 25 * (MOVED + 1 / 9 / 5)

# Up to three flips are always seen at these lengths. Bytes inserted before the last ones of a
# Modbus answer, say, are taken for its end once in 65,536.
CRC16 = Check("CRC-16", CHANGED / 2**16)
SUM8 = Check("sum of 8 bits", SUM8_PASSES)
SUM8_ORDER = Check("sum of 8 bits, no order", SUM8_PASSES + ORDER)
SUM4 = Check("sum of half the bits", FLIPPED * unseen_flips(HALVES, 16) + CHANGED / 2**4)
# The period of x^4 + x + 1 is 15 bits: two flips pass once in 15, three about as often, one never.
# What is changed otherwise must have the right number of 4 bits too.
CRC4 = Check("CRC-4 and number", FLIPPED * 2 / 3 / 15 + CHANGED / 2**8)

CHECKS: dict[str, Check | None] = {
    "bitalino": CRC4,
    "contec-cms50": None,
    "contec-cms50-old": None,
    "cyton": None,
    "ge-s5": SUM8,
    "hl7-oru": None,
    "ivy-450c": None,
    "masimo-ascii1": None,
    "mcu": CRC16,
    "medibus": SUM8,
    "medibus-x": None,  # of its waves; its values have the sum of `medibus`
    "mindray-pm60": SUM4,
    "modbus": CRC16,
    "nellcor": None,
    "nonin-13": SUM8,
    "nonin-2": SUM8_ORDER,
    "nonin-7": SUM8_ORDER,
    "nonin-8": None,
    "openview-ads1292r": None,
    "openview-ads1293": None,
    "openview-max30102": None,
    "pb840": None,
    "pb840-waves": None,
    "phd-blood-pressure": None,
    "phd-oximeter": None,
    "phd-scale": None,
    "philips-intellivue": CRC16,
    "philips-intellivue-lan": None,  # UDP has one, which the network card checks
}
"""None: the protocol has no check at all, and nothing can be told."""
