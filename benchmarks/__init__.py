"""Speed, memory and accuracy of the package, and comparisons with other runtimes.

These programs only report: no test depends on their times.
"""
