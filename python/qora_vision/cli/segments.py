"""`qora-vision segments`: the labelled segments of any number of videos."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import qora_vision
from qora_vision.cli.options import (
    DEFAULT_MODEL,
    UsageError,
    Verbs,
    add_conversion_options,
    add_engine_options,
    add_json_option,
    default_model,
    finite_float,
    load_model,
    new_parser,
    positive_float,
    seconds,
)
from qora_vision.cli.output import print_error, print_json, print_note
from qora_vision.cli.progress import Progress
from qora_vision.cli.timeline import Timeline

DESCRIPTION = """\
Slide a window over each video and print its segments: one line for each stretch
of time with one label. Without --model that is how the camera moves.
"""

EPILOG = """\
examples:
  qora-vision segments film.mp4
  qora-vision segments film.mp4 --model vivit.qora-vision --window 2 --hop 0.5 --min-length 1
  qora-vision segments film.mp4 -o film.srt
  qora-vision segments *.mp4 --format otio -o selects.otio
  qora-vision segments *.mp4 --json | jq -r '[.source, .start, .end, .label] | @tsv'

With --json each segment gives one line as soon as it ends: an object with
"source", "model", "start" and "end" (seconds), "label", "score" and "windows";
a video that cannot be used gives "source", "model" and "error". The others go
on; the exit status is then 1.

Files: csv (table), srt and vtt (subtitles), edl and otio (edit lists), boris and
eaf (annotations for BORIS and ELAN). csv, otio and boris hold any number of
videos; of the others there is a file for each video, and -o is then a folder.
"""

TABLE = "table"


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the console script."""
    parser = new_parser(
        verbs, "segments", summary="list the segments of videos", description=DESCRIPTION, epilog=EPILOG
    )
    parser.add_argument("sources", metavar="SOURCE", nargs="+", help="video file, or folder of images")
    parser.add_argument(
        "--model",
        metavar="M",
        help=f"as `classify` takes it (default: {DEFAULT_MODEL}, which is bundled)",
    )
    add_json_option(parser, "one JSON object a line and segment")
    parser.add_argument(
        "--format",
        choices=(TABLE, *qora_vision.TIMELINE_FORMATS),
        help=f"format of the result (default: what the suffix of -o says, else {TABLE})",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="PATH",
        type=Path,
        help="file to write, or an existing folder that gets a file for each video",
    )
    window = parser.add_argument_group("windows")
    window.add_argument(
        "--window", metavar="S", type=positive_float, help="seconds of a window (default: the model's own)"
    )
    window.add_argument(
        "--hop", metavar="S", type=positive_float, help="seconds between windows (default: half a window)"
    )
    window.add_argument("--start", metavar="S", type=seconds, default=0.0, help="begin at this second")
    window.add_argument("--end", metavar="S", type=seconds, help="end at this second")
    window.add_argument(
        "--fps", metavar="F", type=positive_float, help="frames a second of a folder of images (default: 25)"
    )
    rule = parser.add_argument_group("segments")
    rule.add_argument(
        "--min-score",
        metavar="X",
        type=finite_float,
        help="score from which on a label holds (default: any; 0.5 for a multi-label model)",
    )
    rule.add_argument(
        "--release",
        metavar="X",
        type=finite_float,
        help="score below which a label that holds ends (default: 0.8 times --min-score)",
    )
    rule.add_argument(
        "--min-length",
        metavar="S",
        type=seconds,
        default=0.0,
        help="give the time of shorter segments to their neighbours (default: 0)",
    )
    rule.add_argument(
        "--smooth",
        metavar="S",
        type=seconds,
        default=0.0,
        help="average scores over so many seconds (default: 0)",
    )
    add_conversion_options(parser)
    add_engine_options(parser)
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace) -> int:
    """Show or write the segments of every source; go on after one that fails."""
    form = _format(arguments)
    several = form != TABLE and qora_vision.TIMELINE_FORMATS[form].several
    to_folder = arguments.output is not None and arguments.output.is_dir()
    if form != TABLE and not several and len(arguments.sources) > 1 and not to_folder:
        raise UsageError(f"a file of {form} holds one video: give -o an existing folder, or one SOURCE")
    files = _files(arguments.output, arguments.sources, form) if to_folder else []
    name = arguments.model or default_model()
    tracks: list[qora_vision.Track] = []
    failed = 0
    with Progress() as progress:
        model = load_model(name, arguments, progress)
        progress.close()
        for number, source in enumerate(arguments.sources):
            track = _process(model, name, source, arguments, form, progress)
            failed += track is None
            if track is None:
                continue
            if to_folder:
                _write(files[number], [track], form)
            else:
                tracks.append(track)
    if form != TABLE and tracks and not to_folder:
        if arguments.output is None:
            sys.stdout.write(qora_vision.format_tracks(tracks, form))
        else:
            _write(arguments.output, tracks, form)
    return 1 if failed else 0


def _format(arguments: argparse.Namespace) -> str:
    """Return the format of the result: the one that is named, or that of the output's suffix."""
    output: Path | None = arguments.output
    form: str | None = arguments.format
    if form is None and output is not None:
        form = output.suffix.lower().removeprefix(".")
        if output.is_dir() or form not in qora_vision.TIMELINE_FORMATS:
            known = ", ".join(qora_vision.TIMELINE_FORMATS)
            raise UsageError(f"-o {output}: its suffix names no format; give --format one of {known}")
    form = form or TABLE
    if form == TABLE and output is not None:
        raise UsageError("-o goes with another --format: a table is printed")
    if output == Path("-"):
        raise UsageError("-o - is no file: without -o the result is printed")
    if output is not None and not output.absolute().parent.is_dir():
        raise UsageError(f"-o {output}: there is no folder {output.parent}")
    if output is not None and output.is_file():
        _check_is_no_source(output, arguments.sources)
    if arguments.json and form != TABLE:
        raise UsageError("--json prints lines, and does not go with another --format")
    return form


def _check_is_no_source(output: Path, sources: list[str]) -> None:
    if any(Path(source).exists() and output.samefile(source) for source in sources):
        raise UsageError(f"-o {output} is one of the videos: give the result another name")


def _process(
    model: qora_vision.VideoClassifier,
    name: str,
    source: str,
    arguments: argparse.Namespace,
    form: str,
    progress: Progress,
) -> qora_vision.Track | None:
    """Print the segments of one source as they end, or its error; return them, or None after an error."""
    show = _printer(model, name, source, arguments.json) if form == TABLE else None
    for result in _results(model, source, arguments, form, progress):
        if isinstance(result, qora_vision.Segment):
            if show:
                progress.hide()
                show(result)
            continue
        progress.close()
        if isinstance(result, qora_vision.Track):
            if not result.segments:
                print_note(f"{source}: no label reaches --min-score for --min-length")
            return result
        message = str(result)
        print_error(message if source in message else f"{source}: {message}")
        if arguments.json:
            print_json({"source": source, "model": name, "error": message})
    return None


def _results(
    model: qora_vision.VideoClassifier,
    source: str,
    arguments: argparse.Namespace,
    form: str,
    progress: Progress,
) -> Iterator[qora_vision.Segment | qora_vision.Track | Exception]:
    """Yield the segments of a source, and at last its track or its error; errors of stdout are not caught."""
    found: list[qora_vision.Segment] = []
    try:
        for segment in _segments(model, source, arguments, progress):
            found.append(segment)
            yield segment
        if form == TABLE:
            yield qora_vision.Track(source, found)
        else:
            yield qora_vision.make_track(source, found, fps=arguments.fps)
    except (qora_vision.QoraVisionError, OSError) as error:
        yield error


def _segments(
    model: qora_vision.VideoClassifier,
    source: str,
    arguments: argparse.Namespace,
    progress: Progress,
) -> Iterator[qora_vision.Segment]:
    return model.segments(
        source,
        window=arguments.window,
        hop=arguments.hop,
        start=arguments.start,
        end=arguments.end,
        min_score=arguments.min_score,
        release=arguments.release,
        min_length=arguments.min_length,
        smooth=arguments.smooth,
        fps=arguments.fps,
        progress=progress,
    )


def _printer(
    model: qora_vision.VideoClassifier, name: str, source: str, as_json: bool
) -> Callable[[qora_vision.Segment], None]:
    """Return what prints a segment: a line of JSON, or one of a table that begins with the source."""
    if as_json:

        def show_json(segment: qora_vision.Segment) -> None:
            fields: dict[str, Any] = {"source": source, "model": name, **segment.to_dict()}
            print_json(fields)

        return show_json
    timeline = Timeline(model.labels)
    titles = [f"{source}  ({name})"]

    def show_line(segment: qora_vision.Segment) -> None:
        while titles:
            print(titles.pop())
        timeline.show(segment)

    return show_line


def _files(folder: Path, sources: list[str], form: str) -> list[Path]:
    """Return a file for each source, all different: named without its suffix, with it, or with a number."""
    paths = [Path(source) for source in sources]
    stems = Counter(path.stem.casefold() for path in paths)
    taken: set[str] = set()
    files = []
    for path in paths:
        base = name = path.name if stems[path.stem.casefold()] > 1 else path.stem or "video"
        number = 1
        while name.casefold() in taken:
            number += 1
            name = f"{base} ({number})"
        taken.add(name.casefold())
        files.append(folder / f"{name}.{form}")
    for file in files:
        if file.is_file():
            _check_is_no_source(file, sources)
    return files


def _write(path: Path, tracks: list[qora_vision.Track], form: str) -> None:
    qora_vision.write_tracks(path, tracks, format=form)
    print(path)
