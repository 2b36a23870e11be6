"""The tables of figures that README.md and docs/ show, each made from result files (`TABLES`)."""

from collections.abc import Callable
from statistics import mean, stdev
from typing import Any

import page_tiers
import page_worlds
from page_figures import (
    BEAUTY_FIRST,
    BEAUTY_TEN_SEEDS,
    END_TO_END,
    KNOWLEDGE,
    KUAIRAND,
    MARKET,
    ML_1M,
    ML_1M_TUNING,
    RANKERS,
    RANKINGS,
    best_methods,
    code,
    comparison,
    methods,
    number,
    p_value,
    read_result,
    spread,
    table,
    with_interval,
)

ABLATIONS = {
    "ml-1m": ("ablation_ml-1m_epyc-2cores_2026-11-28-2.json", "ablation_ml-1m_epyc-2cores_2026-11-27.json"),
    "kuairand-pure": (
        "ablation-use-questions-precision_kuairand-pure_epyc-2cores_2026-11-28.json",
        "ablation-conditions_kuairand-pure_epyc-2cores_2026-11-28.json",
        "ablation_kuairand-pure_epyc-2cores_2026-11-27.json",
    ),
    "amazon-beauty": (
        "ablation-questions_amazon-beauty_epyc-2cores_2026-11-30.json",
        "ablation-precision_amazon-beauty_epyc-2cores_2026-11-30.json",
        "ablation-conditions_amazon-beauty_epyc-2cores_2026-11-28.json",
        "ablation-use-size_amazon-beauty_epyc-2cores_2026-11-28.json",
        "ablation_amazon-beauty_epyc-2cores_2026-11-27.json",
    ),
    "market": (
        "ablation-use-questions-precision_market_epyc-2cores_2026-11-28.json",
        "ablation-conditions_market_epyc-2cores_2026-11-28.json",
        "ablation_market_epyc-2cores_2026-11-27.json",
    ),
}
"""Result files of the ablations; a row comes from the first file that has it."""
USERS_ONLY = frozenset(
    {
        "ablation_ml-1m_epyc-2cores_2026-11-27.json",
        "ablation_kuairand-pure_epyc-2cores_2026-11-27.json",
        "ablation_amazon-beauty_epyc-2cores_2026-11-27.json",
        "ablation-use-size_amazon-beauty_epyc-2cores_2026-11-28.json",
        "ablation_market_epyc-2cores_2026-11-27.json",
    }
)
"""Files whose intervals cover the draw of users alone, not of items and seeds."""
ABLATION_ROWS = [
    ("", "no knowledge", "no knowledge"),
    ("use", "early fusion, answers", "early fusion of answers"),
    ("use", "early fusion, similarities", "early fusion of similarities and feedback predictions"),
    ("use", "early fusion, both", "early fusion of both"),
    ("questions", "judgements only", "feedback predictions only"),
    ("questions", "answers without judgements", "answers without feedback predictions"),
    ("questions", "one question", "one question"),
    ("questions", "fixed questions without judgements", "fixed questions, no feedback predictions"),
    ("conditions", "judgements without conditions", "feedback predictions, no conditions"),
    ("conditions", "conditions and questions without judgements", "conditions and questions, no feedback predictions"),
    ("conditions", "next item without conditions or questions", "next item only: no conditions, one question"),
    ("freshness", "as of the day", "knowledge as of the start of the day"),
    ("precision", "early fusion, int8", "early fusion of both, answers in int8"),
    ("encoder", "hstu", "`hstu` as encoder"),
    ("size", "width 32", "width 32 instead of 64"),
    ("size", "width 128", "width 128 instead of 64"),
    ("history", " events", "shorter history"),
]
"""Group and label in the result files (with the names of their time), and the label on the page."""

RETRIEVAL = {
    "any": ("retrieval_ml-1m_epyc-2cores_2026-11-28-2.json", "retrieval-seeds-1-2_ml-1m_epyc-2cores_2026-11-30.json"),
    "opponents": (
        "retrieval-seeds-3-4_ml-1m_epyc-2cores_2026-11-30.json",
        "retrieval_ml-1m_epyc-2cores_2026-11-28.json",
    ),
    "width": ("retrieval-both-width128_ml-1m_epyc-2cores_2026-11-28.json",),
}
RETRIEVAL_METRICS = ("hr@10", "ndcg@10", "hr@50", "ndcg@50", "hr@200", "ndcg@200")
ENSEMBLES = {key: f"ensembles_{key}_epyc-2cores_2026-11-28.json" for key in RANKINGS}
INSAMPLE = "insample_kuairand-pure_epyc-2cores_2026-11-24.json"
WIDE_MODEL = "ranking-width128_ml-1m_epyc-2cores_2026-11-28.json"
LONG_HISTORY = "ranking-hstu-512-events_ml-1m_epyc-2cores_2026-11-28.json"
DEMO = "run-market_epyc-2cores_2026-12-01.json"
PREPARE = "prepare_epyc-2cores_2026-11-24.json"
PRETRAIN_SPEED = "pretrain-speed_epyc-2cores_2026-11-24.json"
RANK_SPEED = "rank-speed_epyc-2cores_2026-11-29.json"


def demo() -> str:
    """The table that `make demo` prints."""
    result = read_result(DEMO)
    gains = {entry["a"]: f"{with_interval(entry, 'ci95')}, {p_value(entry)}" for entry in result["comparisons"]}
    columns = ("auc", "gauc", "logloss", "ne")
    rows = [
        [f"`{name}`", *(spread(metrics[column]) for column in columns), gains.get(name, "")]
        for name, metrics in result["ranking"].items()
    ]
    rows.append(["*oracle*", number(result["oracle"]["auc"]), "", "", "", ""])
    return table(["ranker", "AUC", "GAUC", "log loss", "NE", "knowledge adds to AUC (95 % interval)"], rows)


def gains() -> str:
    """What knowledge adds to the best ranker of every data set, beside the best end-to-end model."""
    rows = []
    for key, files in RANKINGS.items():
        plain, informed, opponent = best_methods(key)
        auc = {name: number(metrics["auc"]["mean"]) for name, metrics in methods(key).items()}
        gain = with_interval(comparison(key, informed, plain))
        cells = [f"{code(plain)} {auc[plain]}", f"{code(informed)} **{auc[informed]}**"]
        rows.append([f"{files.name}: {files.label}", *cells, gain, f"{code(opponent)} {auc[opponent]}"])
    header = [
        "data set",
        "best ranker",
        "best ranker with knowledge",
        "gain in AUC (95 % interval)",
        "best end-to-end model",
    ]
    return table(header, rows)


def leads() -> str:
    """How far the best ranker with knowledge leads one end-to-end model, and two joined models."""
    rows = []
    for key, files in RANKINGS.items():
        plain, informed, opponent = best_methods(key)
        for other in (opponent, f"{opponent} & {opponent}", f"{plain} & {opponent}"):
            entry = comparison(key, informed, other)
            names = " and ".join(code(part) for part in other.split(" & "))
            auc = number(methods(key)[other]["auc"]["mean"])
            rows.append([files.name, code(informed), f"{names} {auc}", with_interval(entry), p_value(entry)])
    return table(["data set", "ranker with knowledge", "opponent", "lead in AUC (95 % interval)", "p"], rows)


def rankers(key: str) -> str:
    """All rankers and end-to-end models of a data set, without and with knowledge."""
    test, validation = methods(key), methods(key, "validation")
    rows = []
    for name in (*RANKERS, *END_TO_END):
        entry, informed = comparison(key, name + KNOWLEDGE, name), name + KNOWLEDGE
        rows.append(
            [
                code(name) + (" end to end" if name in END_TO_END else ""),
                number(validation[name]["auc"]["mean"]),
                *(spread(test[name][metric]) for metric in ("auc", "gauc", "logloss")),
                number(validation[informed]["auc"]["mean"]),
                *(spread(test[informed][metric]) for metric in ("auc", "gauc", "logloss")),
                with_interval(entry),
                p_value(entry),
            ]
        )
    metrics = ["validation AUC", "test AUC", "GAUC", "log loss"]
    header = [
        "ranker",
        *metrics,
        *(f"{metric}, with knowledge" for metric in metrics),
        "gain in AUC (95 % interval)",
        "p",
    ]
    return table(header, rows, *RANKINGS[key].files)


def protocol() -> str:
    """Rows, seeds, Large User Models and tuned settings of every data set."""
    rows = []
    for files in RANKINGS.values():
        result = read_result(next(iter(files.files)))
        tuning = {len(entry["tried"]) for entry in read_result(files.tuning)["bench"]["tuning"].values()}
        counts = [len(result["bench"]["seeds"]), result["bench"]["models"], *tuning]
        rows.append([files.name, f"{result['query']['rows']:,}", *map(str, counts)])
    header = ["data set", "impressions", "seeds", "Large User Models", "settings tried per method"]
    return table(header, rows, ML_1M, ML_1M_TUNING, KUAIRAND, BEAUTY_FIRST, MARKET)


def controls() -> str:
    """Three further measurements of what knowledge adds: ten seeds, a wider model, a longer history of `hstu`."""
    rows = []
    for setting, file, first, second in (
        ("Amazon Beauty, ten seeds", BEAUTY_TEN_SEEDS, "sim", "sim"),
        ("Amazon Beauty, ten seeds", BEAUTY_TEN_SEEDS, "dien", "dien"),
        ("MovieLens-1M, Large User Model of width 128", WIDE_MODEL, "din", "din"),
        ("MovieLens-1M, Large User Model of width 128", WIDE_MODEL, "din", "hstu"),
        ("MovieLens-1M, `hstu` with 512 events, one seed", LONG_HISTORY, "sim", "hstu"),
    ):
        result = read_result(file)
        entry = next(one for one in result["comparisons"] if (one["a"], one["b"]) == (first + KNOWLEDGE, second))
        auc = {name: number(result["ranking"][name]["auc"]["mean"]) for name in (first + KNOWLEDGE, second)}
        cells = [
            f"{code(first)} {auc[first + KNOWLEDGE]}",
            f"{code(second)} {auc[second]}",
            with_interval(entry),
            p_value(entry),
        ]
        rows.append([setting, *cells])
    header = ["setting", "ranker with knowledge", "compared with", "difference in AUC (95 % interval)", "p"]
    return table(header, rows, BEAUTY_TEN_SEEDS, WIDE_MODEL, LONG_HISTORY)


def averages() -> str:
    """How much averaging of several trainings gives, without and with knowledge."""
    rows = []
    for key, file in ENSEMBLES.items():
        auc = {(entry["of"], entry["how"]): number(entry["test"]) for entry in read_result(file)["ensembles"]}
        informed = next(method for method, _ in auc if method.endswith(KNOWLEDGE))
        single = informed.removesuffix(KNOWLEDGE)
        opponent = best_methods(key)[2]
        cells = [f"{code(name)} {auc[name, 'one']}, {auc[name, '5 averaged']}" for name in (single, opponent)]
        answers = [auc[informed, how] for how in ("answers of one", "answers of 5 averaged") if (informed, how) in auc]
        joined = [auc["all without knowledge", "5 of each"], auc["all with knowledge", "5 of each"]]
        rows.append([RANKINGS[key].name, *cells, f"{code(single)} {', '.join(answers)}", *joined])
    header = [
        "data set",
        "best ranker: one training, five averaged",
        "best end-to-end model: one, five averaged",
        "best ranker with knowledge of one Large User Model, of five",
        "all rankers, five trainings each, joined",
        "the same with knowledge",
    ]
    return table(header, rows, *ENSEMBLES.values())


def ablations() -> str:
    """The difference in AUC between each change and the whole method, on every data set."""
    rows = [[label, *(_ablation_cell(key, group, name) for key in ABLATIONS)] for group, name, label in ABLATION_ROWS]
    whole = [number(_ablation(key, "", "whole method")[1]["ranking"]["auc"]["mean"]) for key in ABLATIONS]
    header = ["change", *(RANKINGS[key].name for key in ABLATIONS)]
    files = [file for group in ABLATIONS.values() for file in group]
    return table(header, [["*whole method, test AUC*", *whole], *rows], *files)


def _ablation_cell(key: str, group: str, name: str) -> str:
    try:
        file, row = _ablation(key, group, name)
    except KeyError:
        return ""
    length = f"{row['label']}: " if name == " events" else ""
    return length + with_interval(row["from_whole"]) + (" †" if file in USERS_ONLY else "")


def _ablation(key: str, group: str, name: str) -> tuple[str, dict[str, Any]]:
    for file in ABLATIONS[key]:
        for row in read_result(file)["ablations"]:
            if row["table"] == group and (row["label"] == name or (name == " events" and row["label"].endswith(name))):
                return file, row
    raise KeyError(f"{key}: no ablation {group!r}, {name!r}")


def retrieval() -> str:
    """Retrieval of the held-out film, mean ± standard deviation over trainings."""
    first, second = RETRIEVAL["any"]
    third, hstu = RETRIEVAL["opponents"]
    seeds = [one for file in (first, second, third) for one in read_result(file)["bench"]["by_seed"]]
    labels = {"lum: any": "Large User Model, question *any*", "lum: known": "Large User Model, weekday and gap known"}
    rows = []
    for method, label in (*labels.items(), ("sasrec", "`sasrec` end to end")):
        values = [one[method] for one in seeds if method in one]
        cells = [
            f"{number(mean(v))} ± {number(stdev(v))}" for v in ([one[m] for one in values] for m in RETRIEVAL_METRICS)
        ]
        rows.append([label, str(len(values)), *cells])
    rows.append(
        ["`hstu` end to end", "1", *(number(read_result(hstu)["retrieval"]["hstu"][m]) for m in RETRIEVAL_METRICS)]
    )
    header = ["method", "trainings", *(metric.upper() for metric in RETRIEVAL_METRICS)]
    return table(header, rows, first, second, third, hstu)


def retrieval_width() -> str:
    """Retrieval at width 128, one training each, and the paired differences at both widths."""
    wide, narrow = RETRIEVAL["width"][0], RETRIEVAL["opponents"][0]
    labels = {"lum: any": "question *any*", "lum: known": "weekday and gap known", "sasrec": "`sasrec` end to end"}
    rows = [
        [f"{label}, width 128", *(number(read_result(wide)["retrieval"][method][m]) for m in RETRIEVAL_METRICS)]
        for method, label in labels.items()
    ]
    for label, file in (
        ("*any* less `sasrec`, width 128", wide),
        ("*any* less `sasrec`, width 64, two trainings", narrow),
    ):
        entries = {one["metric"]: one for one in read_result(file)["comparisons"] if one["b"] == "sasrec"}
        rows.append([label, *(f"{with_interval(entries[m])}, {p_value(entries[m])}" for m in RETRIEVAL_METRICS)])
    return table(["method", *(metric.upper() for metric in RETRIEVAL_METRICS)], rows, wide, narrow)


def insample() -> str:
    """Return the table of in-sample knowledge: its accuracy on training rows and on later rows, and the cost of the remedies."""
    labels = {
        "as it is, 1 epochs": "one model, 1 epoch",
        "as it is, 4 epochs": "**one model, 4 epochs (the method)**",
        "folds of users": "folds: models of the other half of the users",
        "time-forward": "time-forward: model of the first half of the events",
    }
    rows = [
        [
            labels[one["name"]],
            *(number(one["alone"][part]) for part in ("train", "valid", "test")),
            number(mean(one["test"])),
        ]
        for one in read_result(INSAMPLE)["insample"]
    ]
    header = [
        "knowledge of the training rows from",
        "training rows",
        "validation",
        "test",
        "`dnn` with knowledge, test",
    ]
    return table(header, rows, INSAMPLE)


def prepare_speed() -> str:
    """Time and memory of `lum prepare`, and the time relative to a bare sort."""
    rows = []
    for size in read_result(PREPARE)["sizes"]:
        memory = size["peak_memory_bytes"]["duckdb"] / 1e9
        seconds = [
            f"{size['seconds'][name]} s" if name in size["seconds"] else "" for name in ("duckdb", "reference", "spark")
        ]
        cells = [*seconds[:2], f"{size['ratio_to_reference']:.1f}", f"{size['microseconds_per_event']:.1f} µs"]
        rows.append([f"{size['events']:,}", *cells, f"{memory:.2f} GB", seconds[2]])
    header = ["events", "`lum prepare`", "bare sort", "ratio", "time per event", "peak memory", "Spark, local mode"]
    return table(header, rows, PREPARE)


def pretrain_speed() -> str:
    """Pre-training speed without padding, and with padding to the longest history of the batch."""
    rows = [
        [
            name.replace("D=", "width "),
            f"{one['parameters']:,}",
            *(f"{one[column]:,}" for column in ("tokens_per_second", "padded_tokens_per_second")),
            f"{one['ratio']:.1f}",
            f"{one['peak_memory_bytes'] / 2**20:,.0f} MiB",
        ]
        for name, one in read_result(PRETRAIN_SPEED)["results"].items()
    ]
    header = ["model", "parameters", "tokens/s", "tokens/s with padding", "ratio", "peak memory"]
    return table(header, rows, PRETRAIN_SPEED)


def rank_speed() -> str:
    """Training steps of the rankers that read histories, in groups of like length and padded."""
    names = {"amazon-2014-Beauty": "Amazon Beauty", "ml-1m": "MovieLens-1M", "kuairand-pure": "KuaiRand-Pure"}
    rows = [
        [names.get(key, key), f"{one['behaviours']:.1f}"]
        + [f"{one[r]['ms']}, {one[r]['padded_ms']} ({one[r]['ratio']})" for r in ("din", "dien", "sim")]
        for key, one in read_result(RANK_SPEED)["results"].items()
    ]
    header = ["data set", "behaviours per row", "`din`: ms grouped, ms padded (ratio)", "`dien`", "`sim`"]
    return table(header, rows, RANK_SPEED)


TABLES: dict[str, Callable[[], str]] = {
    "demo": demo,
    "gains": gains,
    "leads": leads,
    "protocol": protocol,
    "controls": controls,
    "averages": averages,
    "ablations": ablations,
    "retrieval": retrieval,
    "retrieval-width": retrieval_width,
    "tiers": page_tiers.tiers,
    "tiers-controls": page_tiers.tiers_controls,
    "tiers-gauc": page_tiers.tiers_gauc,
    "tiers-cost": page_tiers.tiers_cost,
    "worlds": page_worlds.worlds,
    "worlds-rankers": page_worlds.worlds_rankers,
    "worlds-retrieval": page_worlds.worlds_retrieval,
    "insample": insample,
    "prepare-speed": prepare_speed,
    "pretrain-speed": pretrain_speed,
    "rank-speed": rank_speed,
    **{f"rankers-{key}": lambda key=key: rankers(key) for key in RANKINGS},  # type: ignore[misc]
}
"""Every table that a page can show, by the name in its comment."""
