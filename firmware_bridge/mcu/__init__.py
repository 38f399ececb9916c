"""The microcontroller on the other end of a serial line: its link, its alarm line, its firmware.

`medge_link.h` is the only definition of the bytes; `medge_link.c` is its side in C, `protocol`,
`framing` and `host` are ours, `dfu` changes the firmware.
"""
