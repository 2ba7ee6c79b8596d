"""`dvc repro` with its independent stages spread by Dask: over processes here, or over the workers of a cluster.

Each Dask task is one stage. Workers on this machine share this repository. Those of a cluster each clone its
commit, pull what a stage needs from the DVC remote and push what it made; in the end this machine pulls that
and writes the reports. A stage whose worker dies runs again on another; one that fails stops only what needs it.
"""

import argparse
import contextlib
import logging
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import dask
from distributed import Client, LocalCluster, Worker, WorkerPlugin, as_completed, get_worker
from dvc.repo import Repo
from dvc.utils.serialize import dump_yaml, load_yaml

ROOT = Path(__file__).resolve().parents[1]
Result = dict[str, Any]  # what git keeps of a stage: {path of a lock file: {stage: entry}, path of a metric: text}
Needs = dict[Any, list[Any]]  # stages that must run, in order, each with the stages that it needs, changed or not


# --- On a worker -------------------------------------------------------------------------------------


class Stages(WorkerPlugin):
    """Runs stages on a worker, in `root` or, where that is None, in clones of `bundle` with the entries `locks`."""

    def __init__(self, root: Path | None, bundle: bytes = b"", locks: Result | None = None) -> None:
        self.name, self.root, self.bundle, self.locks = f"stages-{uuid4().hex}", root, bundle, locks

    def setup(self, worker: Worker) -> None:
        self.worker, self.running = worker, set[subprocess.Popen]()
        self.stopped, self.lock = False, threading.Lock()  # against a stage that starts while the others stop

    def teardown(self, worker: Worker) -> None:
        """Stop all stages of this worker."""
        with self.lock:
            self.stopped = True
        for process in list(self.running):
            process.stdin.close()
            process.wait()

    def clone(self) -> Path:
        """This thread's own clone."""
        path = Path(self.worker.local_directory, f"{self.name}-{threading.get_ident()}")
        if not path.exists():
            bundle = path.with_suffix(".bundle")
            bundle.write_bytes(self.bundle)
            subprocess.run(["git", "clone", "--quiet", bundle, path], check=True)
            (path / ".venv").symlink_to(sys.prefix)  # what ./run looks for
            merge_results(path, self.locks)
        return path

    def run(self, name: str, kept: list[str], upstream: list[str], results: list[Result]) -> Result:
        """Run a stage after `upstream`, whose `results` this returned; return what git keeps of it, at `kept`."""
        root = self.root or self.clone()
        merge_results(root, *results)
        arguments = ["shared", name] if self.root else ["clone", name, *upstream]
        limits = dask.config.get("distributed.nanny.pre-spawn-environ")  # on threads: not those of `dvc repro`
        environment = {key: value for key, value in os.environ.items() if key not in limits}
        environment |= {"TQDM_DISABLE": "1", "PYTHON": sys.executable}
        with subprocess.Popen(
            [sys.executable, "scripts/stage.py", *arguments],
            cwd=root,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C is for the machine that asked
        ) as process:
            with self.lock:
                self.running.add(process)
                if self.stopped:
                    process.stdin.close()
            self.worker.log_event(self.name, f"{name}: runs on {self.worker.address}")
            for line in process.stdout:
                self.worker.log_event(self.name, line.rstrip())
        self.running.discard(process)
        if process.returncode:
            raise RuntimeError("see above")
        if self.root:
            return {}
        lock, *metrics = kept
        name = name.split(":")[-1]
        return {lock: {name: read_lock_entries(root, lock)[name]}} | {
            path: (root / path).read_text() for path in metrics
        }


def run_on_worker(plugin: str, *stage: Any) -> Result:
    """Run a stage where this is called, on a worker."""
    return get_worker().plugins[plugin].run(*stage)


def read_lock_entries(root: Path, lock: str) -> dict[str, Any]:
    """The stages of a lock file; none where there is no file."""
    return load_yaml(root / lock)["stages"] if (root / lock).exists() else {}


def merge_results(root: Path, *results: Result) -> None:
    """Put what other machines made of stages into the repository `root`; lock files are slow, so once.

    DVC's run cache would not do: it has no metrics, and may give each machine another result of the same inputs.
    """
    locks: dict[str, Any] = {}
    for path, content in (item for result in results for item in result.items()):
        if isinstance(content, dict):
            locks.setdefault(path, read_lock_entries(root, path)).update(content)
        else:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(content)
    for path, stages in locks.items():
        dump_yaml(root / path, {"schema": "2.0", "stages": stages})


# --- On the machine that asks ------------------------------------------------------------------------


def plan_stages(repo: Repo, task: str) -> Needs:
    """What must run for the report of `task`, or for all of dvc.yaml."""
    import networkx as nx

    graph, changed = repo.index.graph, repo.status()
    ends = [
        stage for stage in graph if (stage.name == f"report_{task}" if task else get_lock_path(stage) == "dvc.lock")
    ]
    if not ends:
        reports = sorted(stage.name.removeprefix("report_") for stage in graph if stage.name.startswith("report_"))
        sys.exit(f"error: TASK: expected {', '.join(reports)}, or nothing for all of dvc.yaml, found '{task}'")
    wanted = set(ends).union(*(nx.descendants(graph, stage) for stage in ends))
    needs: Needs = {}
    for stage in nx.dfs_postorder_nodes(graph):
        others = list(graph.successors(stage))
        if stage in wanted and (stage.addressing in changed or any(other in needs for other in others)):
            needs[stage] = others
    return needs


def get_lock_path(stage: Any) -> str:
    return Path(stage.path_in_repo).with_suffix(".lock").as_posix()


def list_git_outputs(stage: Any) -> list[str]:
    """What git keeps of a stage's results: the lock file, and its metrics."""
    return [get_lock_path(stage), *(os.path.relpath(out.fs_path, ROOT) for out in stage.outs if not out.use_cache)]


def is_ready(stage: Any, needs: Needs, done: Any) -> bool:
    return all(other in done or other not in needs for other in needs[stage])


def get_priority(stage: Any, models: dict[str, Any]) -> float:
    """Long trainings go first, lest one runs alone at the end; before them go the short stages they wait for."""
    _, kind, *names = stage.cmd.split()
    return models[names[0]]["epochs"] if kind in ("train", "backtest") else math.inf


def explain_unfit(repo: Repo) -> str | None:
    """Why other machines cannot work on this repository as it is; None where they can."""
    if not repo.config.read("repo").get("core", {}).get("remote"):
        return "no DVC remote to exchange data through; `dvc remote add -d NAME URL`, then commit .dvc/config"
    command = ["git", "status", "--porcelain", "-uall", "--", ".", ":!metrics", ":!*dvc.lock"]
    changed = [line[3:] for line in subprocess.check_output(command, text=True).splitlines()]
    return f"{', '.join(changed)}: not committed, and other machines work on the commit" if changed else None


def run_dvc(*arguments: str) -> int:
    return subprocess.run([sys.executable, "-m", "dvc", *arguments]).returncode


@contextlib.contextmanager
def connect_client(scheduler: str | None, jobs: int) -> Iterator[Client]:
    """A client of the user's cluster, or of one on this machine that ends with the block."""
    if scheduler:
        try:
            client = Client(scheduler)
        except (OSError, ValueError) as error:
            sys.exit(f"error: SCHEDULER: expected a Dask scheduler, found none at {scheduler} ({error})")
        with client:
            yield client
        return
    settings = {"threads_per_worker": 1, "memory_limit": 0, "silence_logs": logging.CRITICAL}
    usual = signal.signal(signal.SIGINT, signal.SIG_IGN)  # for the workers: Ctrl-C is for this process alone
    with LocalCluster(n_workers=jobs, dashboard_address="127.0.0.1:0", **settings) as cluster:
        signal.signal(signal.SIGINT, usual)
        with Client(cluster, timeout=300) as client:  # seconds; a busy machine takes its time to close it
            yield client


def print_line(text: str) -> None:
    """Print a line at once and in one piece: Dask's thread prints too."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def run_stages(client: Client, plugin: Stages, tasks: list[Any], needs: Needs) -> tuple[set[Any], dict[Any, Any]]:
    """Run the stages `tasks`; return those that are done, and why others failed.

    A stage goes to Dask once the results of those that it needs are here, so that none is lost with a worker.
    """
    client.register_plugin(plugin)
    client.subscribe_topic(plugin.name, lambda event: print_line(event[1]))
    print_line(f"{len(tasks)} stages to run; Dask's dashboard: {client.dashboard_link}")
    futures, results, errors = dict[Any, Any](), dict[Any, Result](), dict[Any, Any]()
    queue = as_completed(with_results=True, raise_errors=False)
    models = load_yaml("params.yaml")["models"]

    def submit() -> None:
        for stage in tasks:
            if stage in futures.values() or not is_ready(stage, needs, results):
                continue
            upstream = [other.addressing for other in needs[stage]]
            found = [results[other] for other in needs[stage] if other in results]
            future = client.submit(
                run_on_worker,
                *(plugin.name, stage.addressing, list_git_outputs(stage), upstream, found),
                key=f"{stage.addressing}-{uuid4().hex}",
                priority=get_priority(stage, models),
                retries=0 if plugin.root else 1,  # it may have been that machine, or the network
            )
            futures[future] = stage
            queue.add(future)

    try:
        submit()
        for future, result in queue:
            stage = futures[future]
            if future.status == "finished":
                future.release()  # from here on, its worker may die
                results[stage] = result
                submit()
                print_line(f"{stage.addressing}: done, {len(tasks) - len(results)} left")
            else:
                errors[stage] = future.exception()
    finally:
        client.cancel(list(futures))
        client.unregister_worker_plugin(plugin.name)  # stops what still runs
        merge_results(ROOT, *results.values())
    return set(results), errors


def repro(task: str, jobs: int, scheduler: str | None) -> int:
    """Run what has changed; return the exit code."""
    if code := subprocess.run(["./run", "check"]).returncode:  # DVC would blame dvc.yaml for a fault of params.yaml
        return code
    with Repo() as repo:
        if scheduler and (why := explain_unfit(repo)):
            sys.exit(f"error: SCHEDULER: {why}; or leave SCHEDULER out, to run it here")
        needs = plan_stages(repo, task)
    # What `check` leaves as it was changes nothing further on; and perhaps only this machine can see the files.
    kinds = ("check", "download") if scheduler else ("check",)
    if first := [stage.addressing for stage in needs if stage.name.startswith(kinds)]:
        run_dvc("repro", "--quiet", "--keep-going", *first)
        with Repo() as repo:
            needs = plan_stages(repo, task)
    if not needs:
        print("Nothing has changed.")
        return 0
    tasks, failed, plugin = list(needs), list[Any](), Stages(ROOT)
    if scheduler:
        tasks, failed = [], [stage for stage in needs if stage.name.startswith("download")]
        for stage in needs:  # reports need all that there is, and so does what needs them
            if not stage.name.startswith("report_") and stage not in failed and is_ready(stage, needs, tasks):
                tasks.append(stage)
        there = {other for stage in tasks for other in needs[stage]} - set(needs)
        if there and run_dvc("push", "--quiet", *(stage.addressing for stage in there)):
            return 1
        bundle = subprocess.check_output(["git", "bundle", "create", "--quiet", "-", "HEAD"])
        plugin = Stages(None, bundle, {lock: read_lock_entries(ROOT, lock) for lock in map(get_lock_path, there)})
    done, errors = set[Any](), dict[Any, Any].fromkeys(failed, "see above")
    if tasks:
        with connect_client(scheduler, min(jobs, len(tasks))) as client:
            done, others = run_stages(client, plugin, tasks, needs)
            errors |= others
    code = 0
    if scheduler:
        for stage in needs:
            if stage not in tasks and stage not in failed and is_ready(stage, needs, done):
                done.add(stage)
        here = [stage.addressing for stage in needs if stage in done]
        code = run_dvc("repro", "--single-item", "--pull", *here) if here else 0
    for stage in needs:
        if stage in errors:
            print(f"error: {stage.addressing} failed: {errors[stage]}", file=sys.stderr)
        elif stage not in done:
            print(f"error: {stage.addressing}: not run, as a stage that it needs failed", file=sys.stderr)
    return 1 if errors else code


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", nargs="?", default="", help="run only forecast, station, reviews or backtest")
    parser.add_argument("--jobs", type=int, default=2, help="stages at a time on this machine (default: 2)")
    parser.add_argument("--scheduler", help="address of a Dask scheduler, such as tcp://host:8786")
    arguments = parser.parse_args()
    if arguments.jobs < 1:
        parser.error(f"JOBS: expected a whole number from 1, found {arguments.jobs}")
    os.chdir(ROOT)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return repro(arguments.task, arguments.jobs, arguments.scheduler)
    except KeyboardInterrupt:
        print("\ninterrupted; all stages have stopped, run it again to resume", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
