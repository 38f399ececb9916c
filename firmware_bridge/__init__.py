"""The wire: codecs, dialogues, ports and links of bedside devices, and their emulators.

The bottom layer: it imports nothing else of medge, and importing it loads no numpy and no pyserial.
It knows bytes, counts and physical units; what a signal means to a patient is `edge`'s business.
"""
