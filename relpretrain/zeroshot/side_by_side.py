"""What `--side-by-side` and `--leaderboard` show: results that were made before, on one page."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

from relpretrain.zeroshot.options import ALL, chosen_model, refuse_unused
from relpretrain.zeroshot.report.board import Board, read_models
from relpretrain.zeroshot.results.board import all_figures, contests, models_of
from relpretrain.zeroshot.results.leaderboard import add_to_leaderboard, read_leaderboard
from relpretrain.zeroshot.results.provenance import describe


def make_board(args: argparse.Namespace, command: list[str]) -> Board:
    """Result folders and the figures of a leaderboard side by side; with `--add` the folders' figures go into it.

    Raises:
        ValueError: If options do not go together, a folder holds no report, or nothing is left to show.
    """
    if chosen_model(args) or args.scores or args.compare:
        raise ValueError("--side-by-side and --leaderboard show what was scored before: leave the other modes out.")
    refuse_unused(args)
    models = read_models(args.side_by_side or ())
    figures = []
    wanted = set(args.tasks or (ALL,))
    if ALL not in wanted:
        models = [replace(m, tables=[t for t in m.tables if t.task in wanted]) for m in models]
    if args.add:
        if args.leaderboard is None:
            raise ValueError("--add needs --leaderboard FILE.csv, into which the figures go.")
        number = add_to_leaderboard(args.leaderboard, all_figures(models))
        print(f"{args.leaderboard} has {number} figures now", file=sys.stderr)
    if args.leaderboard is not None:
        figures = [f for f in read_leaderboard(args.leaderboard) if f.model not in {model.name for model in models}]
    if ALL not in wanted:
        figures = [figure for figure in figures if figure.task in wanted]
    found = contests([*models, *models_of(figures)], args.seed)
    if not found:
        raise ValueError("There are no figures to show: the folders and the leaderboard have none of these tasks.")
    return Board(found, {"folders": ", ".join(map(str, args.side_by_side or ()))} | describe(command, args.seed))
