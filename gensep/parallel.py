"""One function over many tasks, in this process or in several."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any


def results(work: Callable[..., Any], tasks: Sequence[tuple], jobs: int) -> Iterator[Any]:
    """Yield `work(*task)` for every task as it ends, from this process or `jobs` others."""
    if jobs == 1:
        yield from (work(*task) for task in tasks)
        return
    import multiprocessing
    import signal
    from concurrent.futures import ProcessPoolExecutor, as_completed

    pool = ProcessPoolExecutor(
        jobs,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=signal.signal,  # Ctrl-C is the parent's to handle
        initargs=(signal.SIGINT, signal.SIG_IGN),
    )
    try:
        for future in as_completed([pool.submit(work, *task) for task in tasks]):
            yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def job_count(jobs: int, tasks: int) -> int:
    """Give the number of processes: 0 means one a core; never more than there are tasks."""
    return max(1, min(jobs or os.cpu_count() or 1, tasks))
