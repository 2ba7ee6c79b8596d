"""Run `dvc repro` with independent stages in parallel: in processes on this machine, or on a Dask cluster.

Each Dask task runs one stage. On this machine, the threads of one Dask worker in this process share the repository;
each of them has a process of scripts/stage.py. Each worker of a cluster clones the current commit, pulls the inputs
of a stage from the DVC remote and pushes its outputs; at the end, this machine pulls all outputs and writes the
reports. If a worker dies, another worker runs its stage again. If a stage fails, only the stages that depend on it
are not run.
"""

import argparse
import contextlib
import functools
import json
import logging
import math
import os
import signal
import subprocess
import sys
import threading
import unittest.mock
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import dask
from distributed import Client, LocalCluster, Worker, WorkerPlugin, as_completed, get_worker
from dvc.cli import main as dvc
from dvc.repo import Repo
from dvc.utils.serialize import dump_yaml, load_path, load_yaml, loads_yaml

ROOT = Path(__file__).resolve().parents[1]
STOP_LIMIT = 60  # seconds that a stage may need to stop
Result = dict[str, Any]  # a stage's outputs in git: {path of the lock file: {stage: entry}, path of a metric: text}
Plan = dict[Any, list[Any]]  # the stages to run, in order: {stage: stages that it depends on, to run or not}


# --- On a worker -------------------------------------------------------------------------------------


class Stages(WorkerPlugin):
    """Run stages on a worker: in the repository `root`, or in clones of the git `bundle` if `root` is None.

    `locks` holds entries of lock files that a new clone lacks.
    """

    def __init__(self, root: Path | None, bundle: bytes = b"", locks: Result | None = None) -> None:
        self.name, self.root, self.bundle, self.locks = f"stages-{uuid4().hex}", root, bundle, locks

    def setup(self, worker: Worker) -> None:
        self.worker, self.processes = worker, dict[int, subprocess.Popen]()  # one of scripts/stage.py per thread
        self.stopped, self.lock = False, threading.Lock()  # guards against a stage that starts during teardown

    def teardown(self, worker: Worker) -> None:
        """Stop all stages of this worker."""
        with self.lock:
            self.stopped = True
        for process in self.processes.values():
            with contextlib.suppress(OSError):  # it has died
                process.stdin.close()
        for process in self.processes.values():
            try:
                process.wait(STOP_LIMIT)
            except subprocess.TimeoutExpired:  # DVC waits for a lock that another one holds
                process.kill()

    def clone(self) -> Path:
        """Return this thread's clone, and create it on first use."""
        path = Path(self.worker.local_directory, f"{self.name}-{threading.get_ident()}")
        if not path.exists():
            bundle = path.with_suffix(".bundle")
            bundle.write_bytes(self.bundle)
            subprocess.run(["git", "clone", "--quiet", bundle, path], check=True)
            (path / ".venv").symlink_to(sys.prefix)  # where ./run expects its environment
            merge_results(path, self.locks)
        return path

    def get_process(self, root: Path) -> subprocess.Popen:
        """Return this thread's process of scripts/stage.py, which works in `root`; start it unless it runs."""
        process = self.processes.get(threading.get_ident())
        if process and process.poll() is None:
            return process
        # On a cluster, Dask limits threads; `dvc repro` does not.
        limits = {} if self.root else dask.config.get("distributed.nanny.pre-spawn-environ")
        environment = {key: value for key, value in os.environ.items() if key not in limits}
        environment |= {"TQDM_DISABLE": "1", "PYTHON": sys.executable}
        with self.lock:
            if self.stopped:
                raise RuntimeError("the worker stops")
            process = self.processes[threading.get_ident()] = subprocess.Popen(
                [sys.executable, "scripts/stage.py", "shared" if self.root else "clone", self.name],
                cwd=root,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,  # Ctrl-C reaches this script, which stops the stages
            )
        return process

    def run(self, name: str, git_outputs: list[str], upstream: list[str], results: list[Result]) -> Result:
        """Run the stage `name` and return its outputs in git; in a shared repository, its entry of the lock file.

        `git_outputs` are the paths of these outputs, the lock file first. `upstream` are the stages that this one
        depends on, and `results` what this method returned for them.
        """
        root = self.root or self.clone()
        if not self.root:
            merge_results(root, *results)
        process = self.get_process(root)
        self.worker.log_event(self.name, f"{name}: started" + ("" if self.root else f" on {self.worker.address}"))
        print(json.dumps([name, *upstream]), file=process.stdin, flush=True)
        end, code = "", ""
        while not end and (line := process.stdout.readline()):  # empty once the process has ended
            text, end, code = line.rstrip().partition(f"{self.name} exit code ")
            if text or not end:
                self.worker.log_event(self.name, text)
        if not end:
            process.wait()  # the next stage starts another one
        code, _, entries = code.partition(" ")
        if code != "0":
            raise RuntimeError("see above")
        lock, *metrics = git_outputs
        if self.root:
            return {lock: loads_yaml(json.loads(entries))}
        name = name.split(":")[-1]
        return {lock: {name: read_lock_entries(root, lock)[name]}} | {
            path: (root / path).read_text() for path in metrics
        }


def run_on_worker(plugin_name: str, *arguments: Any) -> Result:
    """Call `Stages.run` with `arguments` on the worker that executes this function."""
    return get_worker().plugins[plugin_name].run(*arguments)


def read_lock_entries(root: Path, lock: str) -> dict[str, Any]:
    """Return the entries of a lock file by stage; empty if there is no such file."""
    return load_yaml(root / lock)["stages"] if (root / lock).exists() else {}


def merge_results(root: Path, *results: Result) -> None:
    """Write the results of stages that ran on other machines into the repository `root`.

    Each lock file is written once, since YAML is slow. DVC's run cache could not replace this function: it holds no
    metrics, and may give different machines different results for the same inputs.
    """
    locks: dict[str, Any] = {}
    for path, content in (item for result in results for item in result.items()):
        if isinstance(content, dict):
            if path not in locks:
                locks[path] = read_lock_entries(root, path)
            locks[path].update(content)
        else:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(content)
    for path, stages in locks.items():
        dump_yaml(root / path, {"schema": "2.0", "stages": stages})


# --- On this machine ---------------------------------------------------------------------------------


def plan_stages(repo: Repo, task: str) -> Plan:
    """Return the stages to run for the report of `task`, or for all of dvc.yaml if `task` is empty."""
    import networkx as nx

    graph = repo.index.graph
    with unittest.mock.patch("dvc.dependency.param.load_path", functools.cache(load_path)):
        changed = repo.status()  # reads params.yaml once; DVC alone does for every stage, 0.1 s with forty stations
    targets = [
        stage for stage in graph if (stage.name == f"report_{task}" if task else get_lock_path(stage) == "dvc.lock")
    ]
    if not targets:
        reports = sorted(stage.name.removeprefix("report_") for stage in graph if stage.name.startswith("report_"))
        sys.exit(f"error: TASK: expected {', '.join(reports)}, or nothing for all of dvc.yaml, found '{task}'")
    required = set(targets).union(*(nx.descendants(graph, stage) for stage in targets))
    plan: Plan = {}
    for stage in nx.dfs_postorder_nodes(graph):
        upstream = list(graph.successors(stage))
        if stage in required and (stage.addressing in changed or any(other in plan for other in upstream)):
            plan[stage] = upstream
    return plan


def get_lock_path(stage: Any) -> str:
    return Path(stage.path_in_repo).with_suffix(".lock").as_posix()


def list_git_outputs(stage: Any) -> list[str]:
    """Return the paths of a stage's outputs in git: its lock file, then its metrics."""
    return [get_lock_path(stage), *(os.path.relpath(out.fs_path, ROOT) for out in stage.outs if not out.use_cache)]


def is_ready(stage: Any, plan: Plan, completed: Any) -> bool:
    """Return whether all stages of `plan` that `stage` depends on are in `completed`."""
    return all(other in completed or other not in plan for other in plan[stage])


def get_priority(stage: Any, epochs: dict[str, int]) -> float:
    """Return the Dask priority of a stage: the higher, the earlier.

    Long trainings start first, so that none runs alone at the end. The short stages that trainings wait for come
    before all trainings. `epochs` maps each model to its epochs, summed over its members.
    """
    _, kind, *names = stage.cmd.split()
    return epochs[names[0]] if kind in ("train", "backtest") else math.inf


def count_epochs(content: dict[str, Any]) -> dict[str, int]:
    """Return the number of epochs of each model, summed over its members; `content` is that of params.yaml."""
    epochs = {}
    for name, model in content["models"].items():
        settings = content["training"] | content["tasks"][model["task"]] | model
        limit = settings.get("max_epochs")
        epochs[name] = settings.get("members", 1) * min(settings["epochs"], math.inf if limit is None else limit)
    return epochs


def find_cluster_obstacle(repo: Repo) -> str | None:
    """Return why other machines cannot work on this repository as it is, or None if they can."""
    if not repo.config.read("repo").get("core", {}).get("remote"):
        return "no DVC remote to exchange data through; run `dvc remote add -d NAME URL` and commit .dvc/config"
    command = ["git", "status", "--porcelain", "-uall", "--", ".", ":!metrics", ":!*dvc.lock"]
    files = [line[3:] for line in subprocess.check_output(command, text=True).splitlines()]
    return f"{', '.join(files)}: not committed, and other machines clone the last commit" if files else None


def run_dvc(*arguments: str) -> int:
    """Run DVC and return its exit code."""
    return subprocess.run([sys.executable, "-m", "dvc", *arguments]).returncode


@contextlib.contextmanager
def connect_client(scheduler: str | None, jobs: int) -> Iterator[Client]:
    """Yield a client of the cluster at `scheduler`, or of a temporary one in this process, with `jobs` threads."""
    if scheduler:
        try:
            client = Client(scheduler)
        except (OSError, ValueError) as error:
            sys.exit(f"error: SCHEDULER: expected a Dask scheduler, found none at {scheduler} ({error})")
        with client:
            yield client
        return
    options = {"n_workers": 1, "threads_per_worker": jobs, "memory_limit": 0, "silence_logs": logging.CRITICAL}
    with (
        LocalCluster(processes=False, dashboard_address="127.0.0.1:0", **options) as cluster,
        Client(cluster, timeout=300) as client,  # seconds; a busy machine is slow to close it
    ):
        yield client


def print_line(text: str) -> None:
    """Print a whole line at once, because Dask's thread prints too."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def run_stages(client: Client, plugin: Stages, stages: list[Any], plan: Plan) -> tuple[set[Any], dict[Any, Any]]:
    """Run `stages`; return those that succeeded, and the exception of each that failed.

    A stage is submitted to Dask only after the results of its upstream stages have reached this machine, so that no
    result is lost with a worker.
    """
    client.register_plugin(plugin)
    client.subscribe_topic(plugin.name, lambda event: print_line(event[1]))
    print_line(f"{len(stages)} stages to run; Dask's dashboard: {client.dashboard_link}")
    futures, results, errors = dict[Any, Any](), dict[Any, Result](), dict[Any, Any]()
    queue = as_completed(with_results=True, raise_errors=False)
    epochs = count_epochs(load_yaml("params.yaml"))

    def submit() -> None:
        for stage in stages:
            if stage in futures.values() or not is_ready(stage, plan, results):
                continue
            upstream = [other.addressing for other in plan[stage]]
            upstream_results = [results[other] for other in plan[stage] if other in results]
            future = client.submit(
                run_on_worker,
                *(plugin.name, stage.addressing, list_git_outputs(stage), upstream, upstream_results),
                key=f"{stage.addressing}-{uuid4().hex}",
                priority=get_priority(stage, epochs),
                retries=0 if plugin.root else 1,  # the cause may be that machine, or the network
            )
            futures[future] = stage
            queue.add(future)

    try:
        submit()
        for future, result in queue:
            stage = futures[future]
            if future.status == "finished":
                future.release()  # the worker may die from here on
                results[stage] = result
                submit()
                print_line(f"{stage.addressing}: done, {len(stages) - len(results)} left")
            else:
                errors[stage] = future.exception()
    finally:
        client.cancel(list(futures))
        client.unregister_worker_plugin(plugin.name)  # stops the stages that still run
        merge_results(ROOT, *results.values())
    return set(results), errors


def repro(task: str, jobs: int, scheduler: str | None) -> int:
    """Run the stages that are out of date, and return the exit code."""
    if code := subprocess.run(
        ["./run", "check"]
    ).returncode:  # DVC would report an error in params.yaml as one in dvc.yaml
        return code
    # The stage `check` runs before planning: if its output does not change, the stages after it need not run.
    if dvc(["--wait-for-lock", "repro", "--quiet", "check"]):
        print("error: the stage `check` failed; run `dvc repro check` to see why", file=sys.stderr)
        return 1
    with Repo() as repo:
        if scheduler and (obstacle := find_cluster_obstacle(repo)):
            sys.exit(f"error: SCHEDULER: {obstacle}; or leave SCHEDULER out to run on this machine")
        plan = plan_stages(repo, task)
    # Downloads run here because a path in params.yaml may exist on this machine alone.
    downloads = [stage.addressing for stage in plan if scheduler and stage.name.startswith("download")]
    if downloads:
        run_dvc("repro", "--quiet", "--keep-going", *downloads)
        with Repo() as repo:
            plan = plan_stages(repo, task)
    if not plan:
        print("Nothing has changed.")
        return 0
    stages, failed_downloads, plugin = list(plan), list[Any](), Stages(ROOT)
    if scheduler:
        stages, failed_downloads = [], [stage for stage in plan if stage.name.startswith("download")]
        for stage in plan:  # reports read the results of many stages; they and the stages after them run here
            if (
                not stage.name.startswith("report_")
                and stage not in failed_downloads
                and is_ready(stage, plan, stages)
            ):
                stages.append(stage)
        unchanged = {other for stage in stages for other in plan[stage]} - set(plan)
        if unchanged and run_dvc("push", "--quiet", *(stage.addressing for stage in unchanged)):
            return 1
        bundle = subprocess.check_output(["git", "bundle", "create", "--quiet", "-", "HEAD"])
        plugin = Stages(
            None, bundle, {lock: read_lock_entries(ROOT, lock) for lock in map(get_lock_path, unchanged)}
        )
    completed, errors = set[Any](), dict[Any, Any].fromkeys(failed_downloads, "see above")
    if stages:
        with connect_client(scheduler, min(jobs, len(stages))) as client:
            completed, stage_errors = run_stages(client, plugin, stages, plan)
            errors |= stage_errors
    code = 0
    if scheduler:
        for stage in plan:
            if stage not in stages and stage not in failed_downloads and is_ready(stage, plan, completed):
                completed.add(stage)
        names = [stage.addressing for stage in plan if stage in completed]
        code = run_dvc("repro", "--single-item", "--pull", *names) if names else 0
    for stage in plan:
        if stage in errors:
            print(f"error: {stage.addressing} failed: {errors[stage]}", file=sys.stderr)
        elif stage not in completed:
            print(f"error: {stage.addressing}: not run, because a stage it depends on failed", file=sys.stderr)
    return 1 if errors else code


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "task",
        nargs="?",
        default="",
        help="one of forecast, station, reviews and backtest (default: all of dvc.yaml)",
    )
    parser.add_argument(
        "--jobs", type=int, default=2, help="number of stages to run at a time on this machine (default: 2)"
    )
    parser.add_argument("--scheduler", help="address of a Dask scheduler, such as tcp://host:8786")
    arguments = parser.parse_args()
    if arguments.jobs < 1:
        parser.error(f"JOBS: expected a whole number from 1, found {arguments.jobs}")
    os.chdir(ROOT)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return repro(arguments.task, arguments.jobs, arguments.scheduler)
    except KeyboardInterrupt:
        print("\ninterrupted; all stages have stopped; run the command again to resume", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
