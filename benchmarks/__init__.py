"""How fast, how large, and against whom. Timing never decides a test: these programs only report."""
