"""Emulated devices on a pseudo-terminal, fed by a recording, with scripted faults.

They stand where the hardware would: whatever reads the real device must read these.
"""
