"""The tasks that users call: `load`, and a module for each of classify, segments, stream, compare, annotate.

`qora_vision` exports their names. This room may import every room below it: `loading`, `timeline`, `models`,
`weights`, `video`, `nn`, `engine`, `files` and `errors`; not `qora_vision` and not `cli`.
"""
