"""Entry point of the console script: verbs, exit status, errors on one line."""

from __future__ import annotations

import _thread
import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from threading import Timer

import qora_vision
from qora_vision.cli import cache, classify, compare, convert, demo, doctor, info, segments, vivit
from qora_vision.cli.options import UsageError
from qora_vision.cli.output import print_error

EPILOG = """\
examples:
  qora-vision demo
  qora-vision classify clip.mp4
  qora-vision convert path/to/checkpoint -o vivit.qora-vision
  qora-vision classify clip.mp4 --model vivit.qora-vision
  qora-vision VERB --help

Results go to stdout; progress, notes and errors to stderr.
Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted, 143 ended (SIGTERM).

environment:
  QORA_VISION_MODEL        model of `classify` when --model is not given, in place of camera-motion
  QORA_VISION_DECODER      decoder of videos: pyav (the default) or opencv
  QORA_VISION_CACHE        directory of converted models of the hub
  QORA_VISION_ISA          instruction set to use (`qora-vision doctor` lists them)
  QORA_VISION_NUM_THREADS  threads to use when --threads is not given
"""
# Seconds.
_MOMENT = 0.05


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all verbs; each sets `run` (what to call) and `parser` (its own) as defaults."""
    parser = argparse.ArgumentParser(
        prog="qora-vision",
        description="Classify what happens in videos, on an ordinary CPU.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {qora_vision.__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", dest="verb", required=True)
    for verb in (demo, classify, segments, vivit, convert, compare, info, cache, doctor):
        verb.add_parser(verbs)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line.

    Parameters
    ----------
    argv
        Arguments without the program's name; None takes those of the process.

    Returns
    -------
    int
        Exit status: 0 done, 1 failed (the reason is on stderr, on one line), 2 wrong usage, 130 interrupted
        from the keyboard, 141 when the reader of stdout closed the pipe.
    """
    if hasattr(sys.stdout, "reconfigure"):
        # A file name that the terminal's encoding cannot show must not end the run.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with _no_interrupt_lost():
            arguments = build_parser().parse_args(argv)
            try:
                status: int = arguments.run(arguments)
            except UsageError as error:
                arguments.parser.error(str(error))
            sys.stdout.flush()
    except SystemExit as done:  # argparse has printed help, version or the usage error
        return done.code if isinstance(done.code, int) else 0
    except KeyboardInterrupt:
        print("qora-vision: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of stdout closed the pipe
        return 141
    except MemoryError:
        print_error("out of memory")
        return 1
    except (ValueError, OSError) as error:  # every QoraVisionError, and values that the library refuses
        print_error(error)
        return 1
    return status


@contextlib.contextmanager
def _no_interrupt_lost() -> Iterator[None]:
    """Repeat a Ctrl-C that came where Python prints and forgets it: in a callback of PyAV, in a finaliser."""
    print_unraisable = sys.unraisablehook
    repeated: list[Timer] = []

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            # A moment later: at once, it would come in this function, and be forgotten again.
            repeated.append(Timer(_MOMENT, _thread.interrupt_main))
            repeated[-1].daemon = True
            repeated[-1].start()
        else:
            print_unraisable(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = print_unraisable
        for timer in repeated:
            timer.cancel()
