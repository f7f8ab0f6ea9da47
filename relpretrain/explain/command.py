"""`relpretrain explain`: a page that shows where a model looks, for texts about photos or for triplets of shards."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relpretrain.errors import check_checkpoint, counted, natural, positive
from relpretrain.showing import say, short

if TYPE_CHECKING:
    from relpretrain.checkpoints.checkpoint import Loaded
    from relpretrain.explain.panels import Card
    from relpretrain.explain.survey import Survey

_MAP = (
    "A map is Grad-CAM: attention to a patch in one layer, times what the score gains from more of it. It shows where "
    "the score depends on that layer's attention, not why, and says nothing of other layers."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("shards", nargs="*", metavar="SHARDS", help="of graphs: tar files, folders, globs or addresses")
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FILE", help="of ours, or of ALBEF or X-VLM")
    parser.add_argument("--out", type=Path, required=True, metavar="PAGE.html", help="the page")
    texts = parser.add_argument_group("texts about images of your own")
    texts.add_argument("--image", type=Path, nargs="+", default=[], metavar="FILE", help="one or several photos")
    texts.add_argument("--text", nargs="+", default=[], metavar="TEXT", help="texts, each shown on each photo")
    texts.add_argument("--foil", nargs="+", default=[], metavar="TEXT", help="a false text for each --text")
    graphs = parser.add_argument_group("triplets of shards")
    graphs.add_argument("--n", type=positive, default=8, help="images on the page (default: %(default)s)")
    graphs.add_argument(
        "--measure",
        type=positive,
        default=100,
        metavar="N",
        help="images that figures are of, at least --n (default: %(default)s)",
    )
    graphs.add_argument("--triplets", type=positive, default=3, metavar="N", help="of an image (default: %(default)s)")
    graphs.add_argument("--seed", type=natural, default=0, help="of all random choices (default: %(default)s)")
    graphs.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON, too")
    model = parser.add_argument_group("the model")
    model.add_argument(
        "--layer", type=int, metavar="N", help="as BERT counts (default: the middle one with cross-attention)"
    )
    model.add_argument("--block", type=int, metavar="N", help="of the image encoder, for embeddings (default: 2/3 up)")
    model.add_argument("--device", metavar="NAME", help="default: cuda if there is one, else cpu")
    model.add_argument("--tokenizer", metavar="NAME", help="of an official checkpoint (default: bert-base-uncased)")
    model.add_argument("--image-size", type=positive, metavar="PIXELS", help="resize an official checkpoint")
    model.add_argument("--relations", metavar="FILE", help="vocabulary of a relation head in an official checkpoint")


def run(args: argparse.Namespace, command: Sequence[str]) -> None:
    """Carry the command out.

    Args:
        args: Its options.
        command: The command line, as the page tells it.

    Raises:
        ValueError: If options do not go together, or what they name cannot be used.
        OSError: If something cannot be read or written.
    """
    _check(args)

    import torch

    from relpretrain.checkpoints.checkpoint import load
    from relpretrain.distributed import check_device
    from relpretrain.explain.page import render
    from relpretrain.reading import mend
    from relpretrain.writing import write_text
    from relpretrain.zeroshot.results.provenance import describe

    device = check_device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    loaded = load(args.checkpoint, device, args.tokenizer, args.image_size, None, args.relations)
    about = f"{loaded!r}"
    made = {"model": f"{args.checkpoint}: {about}", "layer": _layer(loaded, args.layer)}
    made |= describe(command, args.seed, str(device))
    notes = [_MAP]
    if args.shards:
        from relpretrain.explain.panels import card_of_sample

        found, left_out = _survey(args, loaded)
        shown: list[Card] = [card_of_sample(each) for each in found.shown]
        notes.insert(0, f"{counted(len(shown), 'image')} of {', '.join(map(str, args.shards))}, drawn at random.")
        page = render(shown, "Where the model looks", notes, found.figures, _said(found, left_out), made)
        _print(found, left_out)
        if args.json is not None:
            content: dict[str, Any] = {"figures": [figure.to_dict() for figure in found.figures]}
            if found.agreements:
                content["agreement with a random top layer"] = _mean(found.agreements)
            content["made"] = made
            write_text(args.json, mend(json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False)) + "\n")
    else:
        shown = [_photo(args, loaded, path) for path in args.image]
        page = render(shown, "Where the model looks", notes, made=made)
    write_text(args.out, page)
    say(f"{counted(len(shown), 'image')} in {args.out}")


def _check(args: argparse.Namespace) -> None:
    """Look for what can be wrong before anything heavy is imported."""
    if bool(args.shards) == bool(args.image):
        raise ValueError("name shards of graphs, or photos with --image and --text (see relpretrain explain --help)")
    if args.image and not args.text:
        raise ValueError("--image needs a --text that is shown on it")
    if args.shards and (args.text or args.foil):
        raise ValueError("--text and --foil go with --image; shards bring their triplets")
    if args.shards and args.block is not None:
        raise ValueError("--block goes with --image: of shards' triplets there are no maps of embeddings")
    if args.foil and len(args.foil) != len(args.text):
        raise ValueError(f"each --text needs its --foil, or none has one: got {len(args.text)} and {len(args.foil)}")
    if args.out.suffix != ".html":
        raise ValueError(f"--out {args.out} should end in .html")
    if args.json is not None and not args.shards:
        raise ValueError("--json writes figures, which shards with boxes have")
    check_checkpoint(args.checkpoint)
    for path in args.image:
        if not path.is_file():
            raise ValueError(f"image {path} does not exist")
    if args.shards:
        from relpretrain.data.shards.find import resolve_shards

        resolve_shards(args.shards)


def _survey(args: argparse.Namespace, loaded: Loaded) -> tuple[Survey, list[str]]:
    from relpretrain.data.shards.find import resolve_shards, tell_copies
    from relpretrain.explain.samples import draw
    from relpretrain.explain.survey import survey

    wanted = max(args.n, args.measure)  # figures are also of all that is shown
    shards = resolve_shards(args.shards)
    tell_copies(shards)
    samples, bad = draw(shards, wanted, args.triplets, args.seed)
    if not samples:
        why = f": {bad[0]}" if bad else ", whose two entities both have a box"
        raise ValueError(f"{', '.join(args.shards)} has no image with a triplet that could be shown{why}")
    found = survey(loaded, samples, args.n, args.layer, args.seed)
    return found, [*bad, *found.left_out]


def _photo(args: argparse.Namespace, loaded: Loaded, path: Path) -> Card:
    from relpretrain.explain.maps.contrast import contrast_maps
    from relpretrain.explain.maps.embeddings import embedding_maps
    from relpretrain.explain.maps.texts import text_maps
    from relpretrain.explain.panels import Card, Row, text_rows
    from relpretrain.pixels import decode_named

    image = decode_named(str(path), path)
    foils = contrast_maps(loaded, image, args.text, args.foil, args.layer) if args.foil else []
    texts = [pair.true for pair in foils] or text_maps(loaded, image, args.text, args.layer)
    embeddings = embedding_maps(loaded, image, args.text, args.block)
    rows: list[Row] = []
    for number, (text, embedding) in enumerate(zip(texts, embeddings, strict=True)):
        rows += text_rows(text, embedding, foils[number] if foils else None)
    return Card(path.name, image, rows=rows)


def _layer(loaded: Loaded, layer: int | None) -> str:
    from relpretrain.explain.maps.watching import checked, layer_number

    backbone = checked(loaded)
    layers = backbone.config.text_layers + backbone.config.fusion_layers
    return f"{layer_number(backbone, layer)} of {layers}, from 0, text layers first"


def _said(found: Survey, left_out: Sequence[str]) -> list[str]:
    """What stands below the figures."""
    said = [
        "constant: a map that is the same everywhere, whose energy is the share of the area; centre: a Gaussian in the "
        "middle; other triplet: the model's own map of a triplet of another image on this one."
    ]
    if found.agreements:
        said.append(
            f"With random weights in the last layer, maps correlate {_mean(found.agreements):+.2f} with these (mean of "
            f"{counted(len(found.agreements), 'text')}): +1 would say that maps do not depend on what it has learned."
        )
    if left_out:
        said.append(
            f"Left out: {counted(len(left_out), 'sample or triplet', 'samples or triplets')}, such as "
            f"{short(left_out[0])}"
        )
    return said


def _print(found: Survey, left_out: Sequence[str]) -> None:
    from relpretrain.explain.page import FIGURE_HEADER, figure_cells
    from relpretrain.inspect.common.tables import print_table

    rows = [[figure.name, *figure_cells(figure)] for figure in found.figures]
    print_table("Maps and boxes", ["figure", *FIGURE_HEADER], rows)
    for line in _said(found, left_out)[1:]:
        say(line)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
