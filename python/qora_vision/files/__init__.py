"""Files on disk: replacing a file as a whole, and mapping a file for reading.

This room knows no file format. It may import `errors`, and no other room.
"""
