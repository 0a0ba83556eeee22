"""Score a task's network on the benchmarks: what test.py, test_SIDD.py and test_DND.py start."""

import argparse
import hashlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mprnet.apps import command
from mprnet.apps.check import check_benchmarks
from mprnet.apps.options import PATIENCE, choose_weights, described, identity, load, make_restorer
from mprnet.apps.reports import report_set
from mprnet.apps.scores import print_notes, print_scores, print_tables, versions, write_page
from mprnet.apps.sets import OWN, choose, parse
from mprnet.apps.submission import submit
from mprnet.errors import UserError
from mprnet.evaluation.benchmark import Plan, Record, Restore, evaluate, write_results
from mprnet.evaluation.protocols import Benchmark, Protocols, load_protocols
from mprnet.evaluation.report import Row, Summary, paper_rows, summarise
from mprnet.evaluation.scoring import MEASURES, Scorers
from mprnet.evaluation.sources import BlockSource, PairSource, Sample, Source, read_8bit, results_by_target
from mprnet.files import lock_folder, make_folder
from mprnet.inference.distributed import World, distributed_world
from mprnet.inference.restorer import Restorer
from mprnet.model.network import MPRNet


@dataclass(frozen=True)
class _Run:
    """What all sets of one call share."""

    arguments: argparse.Namespace
    restorer: Restorer | None  # None: results made elsewhere are scored
    weights: dict[str, str]
    world: World
    scorers: Scorers


def main(network: Callable[..., MPRNet], folder: Path, only: Sequence[str] = ()) -> None:
    """Read the command line and score.

    Args:
        network: the task's MPRNet: weights of another size are not the paper's, and reports say so.
        folder: the task's, where its benchmarks.yml and Datasets/ are.
        only: the benchmarks to choose from; empty: all of the task's.
    """
    command.run(partial(_test, network, folder, only))


def _test(network: Callable[..., MPRNet], folder: Path, only: Sequence[str]) -> int:
    protocols = load_protocols(folder / "benchmarks.yml")
    if only:
        missing = [name for name in only if name not in protocols.benchmarks]
        if missing:
            raise UserError(f"{folder / 'benchmarks.yml'} lacks {missing[0]}.")
        protocols = replace(protocols, benchmarks={name: protocols.benchmarks[name] for name in only})
    a = parse(folder, protocols)
    if a.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = a.gpus
    chosen = choose(protocols, a, folder)
    if a.check:
        return check_benchmarks({b: b.locate(a.input_dir) for b in chosen}, a.input_dir)
    if not chosen:
        print_tables(protocols, {})
        return 0
    with distributed_world([-1], PATIENCE) as world:
        restorer, weights = _restorer(network, folder, a, world)
        # A process of torchrun has its share of the cores.
        workers = a.workers if a.workers >= 0 else max(1, (os.cpu_count() or 1) // world.size)
        with Scorers(workers) as scorers:
            return _score_all(_Run(a, restorer, weights, world, scorers), chosen, protocols)


def _score_all(run: _Run, chosen: Sequence[Benchmark], protocols: Protocols) -> int:
    rows: list[Row] = []
    problems: list[str] = []
    ours: dict[str, Summary] = {}
    for benchmark in chosen:
        try:
            if benchmark.kind == "dnd":
                place = benchmark.locate(run.arguments.input_dir)
                problems += submit(run.restorer, place, run.arguments, run.weights, run.world)
                continue
            summaries, missing = _score_set(run, benchmark)
        except UserError as error:
            if len(chosen) == 1:
                raise
            problems.append(f"{benchmark.name}: {error}")
            continue
        rows += paper_rows(benchmark, summaries)
        problems += missing
        last = summaries[max(summaries)]
        if last.images == last.of:
            ours[benchmark.name] = last
    if run.world.is_main:
        for problem in problems:
            print(f"error: {problem}", file=sys.stderr)
        print_scores(rows, ours, protocols, run.arguments, run.weights["described"])
    return int(bool(problems))


def _score_set(run: _Run, benchmark: Benchmark) -> tuple[dict[int, Summary], list[str]]:
    """Averages by stage, and sentences about what is not scored."""
    a = run.arguments
    source = _source(benchmark, a)
    numbers = list(range(len(source.names)))[: a.limit or None]
    restore, results_key, lacking = _restore(run, source, benchmark)
    lacking &= set(numbers)
    numbers = [n for n in numbers if n not in lacking]
    key = {
        "benchmark": benchmark.name,
        "measure": f"{benchmark.measure}: {MEASURES[benchmark.measure][1]}",
        "rounded": "to 8 bits" if benchmark.kind == "pairs" else "not: single precision",
        **results_key,
    }
    plan = Plan(key, benchmark.measure, a.result_dir / benchmark.name, a.save_images, restore)
    make_folder(plan.folder)
    with run.world.enter_on_main(lock_folder(plan.folder)):
        records = evaluate(source, numbers, plan, run.scorers, run.world)
        return _report(run, benchmark, source, numbers, plan, records, lacking)


def _report(
    run: _Run,
    benchmark: Benchmark,
    source: Source,
    numbers: Sequence[int],
    plan: Plan,
    records: Sequence[Record],
    lacking: set[int],
) -> tuple[dict[int, Summary], list[str]]:
    of = benchmark.count or len(source.names)
    stages = sorted({int(stage) for record in records for stage in record.get("scores", {})}) or [3]
    summaries = {stage: summarise(records, stage, of) for stage in stages}
    if run.world.is_main:
        described = {f"stage {stage}": asdict(summary) for stage, summary in summaries.items()}
        write_results(plan, records, {"versions": versions(), **described})
        write_page(source, numbers, records, plan, max(stages))
        if run.arguments.report:
            path = report_set(source, numbers, records, plan, paper_rows(benchmark, summaries), max(stages))
            print(f"look into {path}")
    problems = [record["problem"] for record in records if "problem" in record]
    problems += [f"{path}: has no partner." for path in source.orphans]
    problems += [source.advice] if source.advice else []
    problems += [
        f"{source.names[n]}: there is no result of this name in {run.arguments.score_only}." for n in sorted(lacking)
    ]
    if run.world.is_main:
        print_notes(records)
    return summaries, problems


def _source(benchmark: Benchmark, a: argparse.Namespace) -> Source:
    if benchmark.name == OWN:
        inputs, targets = a.pairs
        return PairSource(inputs, targets, "many_to_one" if a.many_to_one else "name")
    place = benchmark.locate(a.input_dir)
    if place is None:
        raise UserError(f"{benchmark.name} is not there: expected are {benchmark.expected(a.input_dir)}.")
    if benchmark.kind == "sidd":
        return BlockSource(place)
    return PairSource(place / "input", place / "target")


def _restore(run: _Run, source: Source, benchmark: Benchmark) -> tuple[Restore, dict[str, Any], set[int]]:
    """How images become results, what of that scores depend on, and which images have no result."""
    a = run.arguments
    if run.restorer is None:
        if not isinstance(source, PairSource):
            raise UserError(f"--score_only takes pictures, and the results of {benchmark.name} are none.")
        results = results_by_target(_results_folder(a.score_only, benchmark), source)
        lacking = set(range(len(source.names))) - set(results)
        stamps = hashlib.sha256("\n".join(f"{p} {p.stat().st_mtime_ns}" for p in results.values()).encode()).hexdigest()
        return partial(_read_result, results), {"results": str(a.score_only), "state": stamps}, lacking
    key = {"weights": run.weights["sha256"], "stage": "all" if a.stagewise else run.restorer.stage or "last"}
    return partial(_run_network, run.restorer, a.stagewise), {**key, **described(a, run.restorer)}, set()


def _results_folder(folder: Path, benchmark: Benchmark) -> Path:
    return folder / benchmark.name if (folder / benchmark.name).is_dir() else folder


def _read_result(results: Mapping[int, Path], number: int, sample: Sample) -> dict[int, np.ndarray]:
    image, _ = read_8bit(results[number], "result")
    if image.shape != sample.target.shape:
        sizes = " and ".join(f"{i.shape[1]}x{i.shape[0]}" for i in (image, sample.target))
        raise UserError(f"{results[number]} and its target are of different sizes, {sizes}.")
    return {3: image}


def _run_network(restorer: Restorer, every: bool, number: int, sample: Sample) -> dict[int, np.ndarray]:
    degraded = sample.degraded.astype(np.float32) / 255
    if every:
        return dict(enumerate(restorer.every_stage(degraded), start=1))
    return {restorer.stage or restorer.num_stages: restorer(degraded)}


def _restorer(
    network: Callable[..., MPRNet], folder: Path, a: argparse.Namespace, world: World
) -> tuple[Restorer | None, dict[str, str]]:
    """The network to run (None: only score), and what to say of it."""
    if a.score_only:
        return None, {"described": f"results in {a.score_only}"}
    path = choose_weights(folder, a.weights, a.grade)
    model = load(path, folder)
    parameters = sum(p.numel() for p in model.parameters())
    restorer = make_restorer(model, a, world, None if a.stagewise else a.stage)
    words = [path.name, restorer.precision]
    words += [f"stage {a.stage}"] if a.stage else []
    words += [f"local pooling for patches of {restorer.patch}"] if restorer.patch else []
    words += ["ensemble of eight"] if a.ensemble else []
    line = ", ".join(words)
    if model.config != network().config:
        line += f": {parameters / 1e6:.2f} M parameters, not an MPRNet of the paper"
    return restorer, {"described": line, **identity(path)}
