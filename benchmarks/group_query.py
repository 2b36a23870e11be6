"""The point-in-time group query beside one pass per impression and one pass per question: processor time for the same answers.

    python benchmarks/group_query.py --json OUT.json

Users have histories of like length and impressions at random moments: of the whole history (`spread`, as in a bulk run over a
log) or of its last tenth (`late`, as in a test period). Every impression has the same number of questions. The same model gives
the same answers in three ways:

- `question`: one pass over the history for every question of every impression;
- `impression`: one pass over the history for every impression, with all its questions at the end (the paper's way);
- `user`: one pass over the history of a user, which answers all questions of all impressions (ours).

All three use the same code, which computes no padding beyond that of histories of like length, and full batches of passes sorted
by length. A way that needs many batches is measured on a sample, every nth batch. The time of a user is the time of an answer, in
the best of several repetitions in turns, times the number of answers of a user. All answers of the sample are compared.
"""

import os

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # read by the imports below

import argparse
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from random_model import CATALOGUE, SIZES, random_model

from openlum.artefact.json_file import write_json
from openlum.data.packing import Spans, batches
from openlum.model import History, LargeUserModel, ModelSettings, Questions
from openlum.model.batch import Fields
from openlum.pipeline.summary import environment

LENGTHS = {"20 to 50": (20, 50), "128": (128, 128), "512": (512, 512)}
IMPRESSIONS, QUESTIONS = [1, 5, 20, 80], [1, 3, 8]
MOMENTS = {"spread": 1.0, "late": 0.1}
"""Part of the history that has the impressions."""
WAYS = ["question", "impression", "user"]
BATCH_EVENTS = 4096
TOLERANCE = 1e-4


@dataclass
class Log:
    """The histories of B users with L events, and I impressions with G questions each."""

    item: torch.Tensor
    """(L,) items of the events."""
    condition: Fields
    """Condition fields of the events, (L,)."""
    first: np.ndarray
    """(B,) index of each user's first event."""
    user_index: np.ndarray
    """(I,) user of each impression, ascending."""
    prefix: np.ndarray
    """(I,) number of the user's events before each impression."""
    questions: Fields
    """Condition fields of the questions, (I G,), by impression."""

    def history(self, user_index: np.ndarray, events: np.ndarray) -> History:
        """Return the first `events[i]` events of the user `user_index[i]`, for all i, end to end."""
        offsets = np.concatenate([[0], events.cumsum()])
        index = torch.from_numpy(np.repeat(self.first[user_index] - offsets[:-1], events) + np.arange(offsets[-1]))
        condition = {name: field[index] for name, field in self.condition.items()}
        return History(self.item[index], condition, torch.from_numpy(offsets))


def random_log(lengths: tuple[int, int], users: int, impressions: int, questions: int, part: float) -> Log:
    """Return a log with `impressions` of each user at random moments of the last part of the history."""
    rng = np.random.default_rng(0)
    events = rng.integers(lengths[0], lengths[1] + 1, users)
    user_index = np.repeat(np.arange(users), impressions)
    share = 1 - part * rng.random((users, impressions))
    prefix = np.sort(np.ceil(share * events[:, None]), 1).astype(np.int64).ravel()
    n, asked = int(events.sum()), len(prefix) * questions
    fields = [
        {name: torch.from_numpy(rng.integers(0, size, rows)) for name, size in SIZES.items()} for rows in (n, asked)
    ]
    item = torch.from_numpy(rng.integers(1, CATALOGUE, n))
    return Log(item, fields[0], events.cumsum() - events, user_index, prefix, fields[1])


Pass = tuple[History, Questions, np.ndarray]
"""Histories, questions about them, and the indices of these questions in the log."""


def passes(log: Log, way: str, questions: int, at_most: int) -> list[Pass]:
    """Return the batches of a way; every nth batch if there are more than `at_most`."""
    asked = np.arange(len(log.prefix) * questions)
    prefix, impression = np.repeat(log.prefix, questions), asked // questions
    row = {"question": asked, "impression": impression, "user": log.user_index[impression]}[way]  # of each question
    row_user, row_events = (np.zeros(row[-1] + 1, np.int64) for _ in range(2))
    row_user[row] = log.user_index[impression]
    np.maximum.at(row_events, row, prefix)
    by_length = np.argsort(-row_events, kind="stable")
    in_row = np.bincount(row)
    spans = Spans(by_length, np.zeros_like(by_length), row_events[by_length])
    found = list(batches(spans, BATCH_EVENTS, extra=in_row[by_length] // 2))
    first = np.cumsum(in_row) - in_row
    out = []
    for batch in found[:: -(-len(found) // at_most)]:
        rows = batch.user_index
        index = np.concatenate([np.arange(first[row], first[row] + in_row[row]) for row in rows])
        asked_here = Questions(
            {name: field[index] for name, field in log.questions.items()},
            torch.from_numpy(np.repeat(np.arange(len(rows)), in_row[rows])),
            torch.from_numpy(prefix[index]),
        )
        out.append((log.history(row_user[rows], row_events[rows]), asked_here, index))
    return out


def answers(model: LargeUserModel, batch: Pass) -> torch.Tensor:
    """Return the answers to the questions of a batch, (Q, E)."""
    history, questions, _ = batch
    return model.network.answer_questions(model.network.encode_history(history), questions)


@torch.inference_mode()
def measure(
    model: LargeUserModel, log: Log, questions: int, impressions: int, repetitions: int, at_most: int
) -> dict[str, float]:
    """Return the microseconds a user of every way, and the largest difference of an answer from ours."""
    ways = {way: passes(log, way, questions, at_most) for way in WAYS}
    expected = torch.zeros(len(log.prefix) * questions, model.config.settings.embedding_width)
    is_known = torch.zeros(len(expected), dtype=torch.bool)
    difference = 0.0
    for way in reversed(WAYS):
        for batch in ways[way]:
            index = torch.from_numpy(batch[2])
            if way == "user":
                expected[index], is_known[index] = answers(model, batch), True
            else:
                known = is_known[index]
                gap = (answers(model, batch) - expected[index])[known].abs()
                difference = max(difference, float(gap.max()) if len(gap) else 0.0)
    assert difference < TOLERANCE, difference
    best = dict.fromkeys(WAYS, float("inf"))
    for _ in range(repetitions):
        for way, group in ways.items():
            began = time.process_time()
            for batch in group:
                answers(model, batch)
            seconds = time.process_time() - began
            best[way] = min(best[way], seconds / sum(len(index) for *_, index in group))
    return {f"{way} µs": 1e6 * best[way] * questions * impressions for way in WAYS} | {"difference": difference}


def table(encoder: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure every cell and print its row. Three questions are measured beside one in the same cell of impressions."""
    settings = ModelSettings(encoder=encoder, width=arguments.width, embedding_width=arguments.width, max_events=512)
    model, rows = random_model(settings), []
    print(f"\n{encoder}: microseconds a user\n{'events':>9} {'moments':>8} {'impr.':>5} {'quest.':>6}", end="")
    print("".join(f"{way:>13}" for way in WAYS) + f" {'impr./user':>10} {'quest./user':>11} {'one more':>8}")
    for (name, lengths), (moments, part), impressions in product(LENGTHS.items(), MOMENTS.items(), IMPRESSIONS):
        one = 0.0
        for questions in QUESTIONS:
            users = max(2 * BATCH_EVENTS * arguments.batches // (2 * lengths[1] + impressions * questions), 2)
            log = random_log(lengths, users, impressions, questions, part)
            row: dict[str, Any] = {"events": name, "moments": moments, "impressions": impressions}
            row |= {"questions": questions}
            row |= measure(model, log, questions, impressions, arguments.repetitions, arguments.batches)
            row["impression_over_user"] = row["impression µs"] / row["user µs"]
            row["question_over_user"] = row["question µs"] / row["user µs"]
            one = one or row["user µs"]
            # The pass with one question is the base: its own cost includes that question.
            row["one_more_question"] = (row["user µs"] / one - 1) / (questions - 1) if questions > 1 else None
            rows.append({key: round(x, 7) if isinstance(x, float) else x for key, x in row.items()})
            print(f"{name:>9} {moments:>8} {impressions:>5} {questions:>6}", end="")
            print("".join(f"{row[f'{way} µs']:>13,.0f}" for way in WAYS), end="")
            more = "" if row["one_more_question"] is None else f"{row['one_more_question']:.1%}"
            print(f" {row['impression_over_user']:>10.1f} {row['question_over_user']:>11.1f} {more:>8}", flush=True)
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--repetitions", type=int, default=5, help="timed repetitions of each way (default: 5)")
    parser.add_argument("--batches", type=int, default=2, help="most batches of each way (default: 2)")
    parser.add_argument("--encoders", nargs="+", default=["transformer", "hstu"])
    parser.add_argument("--width", type=int, default=64, help="width of the model (default: 64)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = {encoder: table(encoder, arguments) for encoder in arguments.encoders}
    if arguments.json:
        settings = {name: getattr(arguments, name) for name in ("repetitions", "batches", "width")}
        content = {"benchmark": "group_query", "settings": settings, "results": results}
        write_json(arguments.json, content | {"environment": environment()})


if __name__ == "__main__":
    main()
