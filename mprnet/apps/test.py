"""Scores a task's network on the benchmarks: the program behind test.py, test_SIDD.py and test_DND.py."""

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
from mprnet.apps.options import TIMEOUT, describe_running, identify_weights, load_network, make_restorer
from mprnet.apps.reports import write_set_report
from mprnet.apps.scores import print_notes, print_scores, print_tables, read_versions, write_page
from mprnet.apps.sets import OWN_PAIRS, choose_benchmarks, parse_arguments
from mprnet.apps.submission import write_submission
from mprnet.errors import UserError
from mprnet.evaluation.benchmark import Plan, Record, Restore, evaluate, write_results
from mprnet.evaluation.protocols import Benchmark, Protocols, load_protocols
from mprnet.evaluation.report import Row, Summary, make_rows, summarise
from mprnet.evaluation.scoring import MEASURES, Scorers
from mprnet.evaluation.sources import BlockSource, NoisySource, PairSource, Sample, Source, read_8bit, results_by_target
from mprnet.files import lock_folder, make_folder
from mprnet.inference.distributed import World, distributed_world
from mprnet.inference.launcher import own_processors
from mprnet.inference.restorer import Restorer
from mprnet.model.network import MPRNet


@dataclass(frozen=True)
class _Setup:
    """What scoring uses for all benchmarks."""

    arguments: argparse.Namespace
    restorer: Restorer | None  # None: results of another program are scored
    weights: dict[str, str]
    world: World
    scorers: Scorers


def main(network: Callable[..., MPRNet], folder: Path, only: Sequence[str] = ()) -> None:
    """Read the command line and score.

    Args:
        network: the task's MPRNet. If the weights have other widths, reports say that they are not the paper's network.
        folder: the task's folder, with benchmarks.yml and Datasets/.
        only: the benchmarks to choose from; empty: all benchmarks of the task.
    """
    command.run(partial(_test, network, folder, only))


def _test(network: Callable[..., MPRNet], folder: Path, only: Sequence[str]) -> int:
    protocols = load_protocols(folder / "benchmarks.yml")
    if only:
        missing = [name for name in only if name not in protocols.benchmarks]
        if missing:
            raise UserError(f"{folder / 'benchmarks.yml'} has no benchmark {missing[0]}.")
        protocols = replace(protocols, benchmarks={name: protocols.benchmarks[name] for name in only})
    a = parse_arguments(folder, protocols)
    if a.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = a.gpus
    chosen = choose_benchmarks(protocols, a, folder)
    if a.check:
        sets = {b.set: b for b in chosen}
        return check_benchmarks({b: b.locate(a.input_dir) for b in sets.values()}, a.input_dir)
    if not chosen:
        print_tables(protocols, {})
        return 0
    with distributed_world([-1], TIMEOUT) as world:
        restorer, weights = _load_restorer(network, folder, a, world)
        workers = a.workers if a.workers >= 0 else own_processors()
        with Scorers(workers) as scorers:
            return _score_all(_Setup(a, restorer, weights, world, scorers), chosen, protocols)


class _MissingSetError(UserError):
    """A data set is not there. The message names it."""


def _score_all(setup: _Setup, chosen: Sequence[Benchmark], protocols: Protocols) -> int:
    """Score benchmarks, and print scores and problems. Return the exit status."""
    rows: list[Row] = []
    problems: list[str] = []
    our_averages: dict[str, Summary] = {}
    for benchmark in chosen:
        try:
            if benchmark.kind == "dnd":
                dataset = benchmark.locate(setup.arguments.input_dir)
                problems += write_submission(setup.restorer, dataset, setup.arguments, setup.weights, setup.world)
                continue
            summaries, set_problems = _score_set(setup, benchmark)
        except UserError as error:
            if len(chosen) == 1:
                raise
            if not isinstance(error, _MissingSetError):
                problems.append(f"{benchmark.name}: {error}")
            elif str(error) not in problems:  # the set is missing for all of its benchmarks
                problems.append(str(error))
            continue
        rows += make_rows(benchmark, summaries)
        problems += set_problems
        last = summaries[max(summaries)]
        if last.images == last.of:
            our_averages[benchmark.name] = last
    if setup.world.is_main:
        for problem in problems:
            print(f"error: {problem}", file=sys.stderr)
        print_scores(rows, our_averages, protocols, setup.arguments, setup.weights["described"])
    return int(bool(problems))


def _score_set(setup: _Setup, benchmark: Benchmark) -> tuple[dict[int, Summary], list[str]]:
    """Score a benchmark. Return the averages by stage, and sentences about images that are not scored."""
    a = setup.arguments
    source = _open_source(benchmark, a)
    numbers = list(range(len(source.names)))[: a.limit or None]
    restore, results_key, missing = _choose_restore(setup, source, benchmark)
    missing &= set(numbers)
    numbers = [n for n in numbers if n not in missing]
    key = {
        "benchmark": benchmark.name,
        "measure": f"{benchmark.measure}: {MEASURES[benchmark.measure][1]}",
        "rounded": "not: single precision" if benchmark.kind == "sidd" else "to 8 bits",
        **({"noise": str(benchmark.noise)} if benchmark.noise else {}),
        **results_key,
    }
    plan = Plan(key, benchmark.measure, a.result_dir / benchmark.name, a.save_images, restore, a.png_level)
    make_folder(plan.folder)
    with setup.world.enter_on_main(lock_folder(plan.folder)):
        records = evaluate(source, numbers, plan, setup.scorers, setup.world)
        return _report(setup, benchmark, source, numbers, plan, records, missing)


def _report(
    setup: _Setup,
    benchmark: Benchmark,
    source: Source,
    numbers: Sequence[int],
    plan: Plan,
    records: Sequence[Record],
    missing: set[int],
) -> tuple[dict[int, Summary], list[str]]:
    """Write a benchmark's results on rank 0. Return what ``_score_set`` returns."""
    of = benchmark.count or len(source.names)
    stages = sorted({int(stage) for record in records for stage in record.get("scores", {})}) or [3]
    summaries = {stage: summarise(records, stage, of) for stage in stages}
    if setup.world.is_main:
        averages = {f"stage {stage}": asdict(summary) for stage, summary in summaries.items()}
        write_results(plan, records, {"versions": read_versions(), **averages})
        write_page(source, numbers, records, plan, max(stages))
        if setup.arguments.report:
            path = write_set_report(source, numbers, records, plan, make_rows(benchmark, summaries), max(stages))
            print(f"look into {path}")
    problems = [record["problem"] for record in records if "problem" in record]
    problems += [f"{path}: has no partner." for path in source.orphans]
    problems += [source.advice] if source.advice else []
    problems += [
        f"{source.names[n]}: there is no result of this name in {setup.arguments.score_only}." for n in sorted(missing)
    ]
    if setup.world.is_main:
        print_notes(records)
    return summaries, problems


def _open_source(benchmark: Benchmark, a: argparse.Namespace) -> Source:
    if benchmark.name == OWN_PAIRS:
        inputs, targets = a.pairs
        return PairSource(inputs, targets, "many_to_one" if a.many_to_one else "name")
    dataset = benchmark.locate(a.input_dir)
    if dataset is None:
        raise _MissingSetError(f"{benchmark.set} is not there: expected {benchmark.describe_files(a.input_dir)}.")
    if benchmark.kind == "sidd":
        return BlockSource(dataset)
    if benchmark.noise is not None:
        return NoisySource(dataset, benchmark.noise)
    return PairSource(dataset / "input", dataset / "target")


def _choose_restore(setup: _Setup, source: Source, benchmark: Benchmark) -> tuple[Restore, dict[str, Any], set[int]]:
    """Choose where results come from: the network, or pictures of another program.

    Returns:
        The function that gives the results, the settings that scores depend on, and the numbers of images without
        a result.
    """
    a = setup.arguments
    if setup.restorer is None:
        if not isinstance(source, PairSource):
            raise UserError(f"--score_only takes pictures, but the results of {benchmark.name} are not pictures.")
        results = results_by_target(_results_folder(a.score_only, benchmark), source)
        missing = set(range(len(source.names))) - set(results)
        state = hashlib.sha256("\n".join(f"{p} {p.stat().st_mtime_ns}" for p in results.values()).encode()).hexdigest()
        return partial(_read_result, results), {"results": str(a.score_only), "state": state}, missing
    key = {"weights": setup.weights["sha256"], "stage": "all" if a.stagewise else setup.restorer.stage or "last"}
    restore = partial(_run_network, setup.restorer, a.stagewise, source.names)
    return restore, {**key, **describe_running(a, setup.restorer)}, set()


def _results_folder(folder: Path, benchmark: Benchmark) -> Path:
    return folder / benchmark.name if (folder / benchmark.name).is_dir() else folder


def _read_result(results: Mapping[int, Path], number: int, sample: Sample) -> dict[int, np.ndarray]:
    image, _ = read_8bit(results[number], "result")
    if image.shape != sample.target.shape:
        sizes = " and ".join(f"{i.shape[1]}x{i.shape[0]}" for i in (image, sample.target))
        raise UserError(f"{results[number]} and its target have different sizes, {sizes}.")
    return {3: image}


def _run_network(
    restorer: Restorer, all_stages: bool, names: Sequence[str], number: int, sample: Sample
) -> dict[int, np.ndarray]:
    degraded = sample.degraded
    if degraded.dtype == np.uint8:
        degraded = degraded.astype(np.float32) / 255
    try:
        if all_stages:
            return dict(enumerate(restorer.every_stage(degraded, clipped=False), start=1))
        return {restorer.stage or restorer.num_stages: restorer(degraded, clipped=False)}
    except UserError as error:
        raise UserError(f"{names[number]}: {error}") from error


def _load_restorer(
    network: Callable[..., MPRNet], folder: Path, a: argparse.Namespace, world: World
) -> tuple[Restorer | None, dict[str, str]]:
    """Return the network to run, None with --score_only; and its description for reports and keys."""
    if a.score_only:
        return None, {"described": f"results in {a.score_only}"}
    model, path = load_network(folder, a.weights, a.grade)
    parameters = sum(p.numel() for p in model.parameters())
    restorer = make_restorer(model, a, world, None if a.stagewise else a.stage)
    words = [path.name, restorer.precision]
    words += [f"stage {a.stage}"] if a.stage else []
    words += [f"local pooling for patches of {restorer.patch}"] if restorer.patch else []
    words += ["ensemble of eight"] if a.ensemble else []
    line = ", ".join(words)
    if model.config != network().config:
        line += f": {parameters / 1e6:.2f} M parameters, not an MPRNet of the paper"
    return restorer, {"described": line, **identify_weights(path)}
