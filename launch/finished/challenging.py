"""Submissions to challenges, and finished runs, scored and ranked."""

from pathlib import Path

from basinet.analysis.challenges.challenge_page import check_place, write_leaderboard
from basinet.analysis.challenges.judging import Show, judge
from basinet.analysis.challenges.leaderboard import Leaderboard

__all__ = ["challenge"]


def challenge(
    name: str,
    *submissions: str | Path,
    truth: str | Path | None = None,
    pairs: str | Path | None = None,
    out: str | Path | None = None,
    show: Show = lambda done, text: None,
) -> Leaderboard:
    """Score submissions to a challenge by its protocol, and rank them.

    Args:
        name: The challenge, "super-resolution" or "video-quality".
        *submissions: Folders of images, or CSV files with the columns `filename` and `score`; or folders of finished
            runs, of which the centroid answers for their test data.
        truth: Folder of the true images, or CSV file of the true scores; by default the test data of the first run.
        pairs: Excel or CSV file of the pairs of videos whose order counts.
        out: Folder for the tables, the figure and the report; None to write nothing.
        show: Called with the fraction done, and the name of the next submission.

    Returns:
        The leaderboard; its `refused` says what is wrong with submissions that cannot be scored.

    Raises:
        ExperimentError: There is no such challenge, the truth or the folder cannot be used, or no submission can be
            scored.
    """
    if out is not None:
        check_place(Path(out))
    given = {key: None if place is None else Path(place) for key, place in (("truth", truth), ("pairs", pairs))}
    board = judge(name, [*map(Path, submissions)], **given, show=show)
    if out is not None:
        write_leaderboard(board, Path(out))
    return board
