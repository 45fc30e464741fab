"""One function over many tasks, in this process or in several."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def results(work: Callable[..., T], tasks: Sequence[tuple], jobs: int) -> Iterator[T]:
    """Yield `work(*task)` for every task as it finishes, from this process or `jobs` others."""
    if jobs == 1:
        yield from (work(*task) for task in tasks)
        return
    import multiprocessing
    import signal
    from concurrent.futures import ProcessPoolExecutor, as_completed

    pool = ProcessPoolExecutor(
        jobs,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=signal.signal,  # the parent handles Ctrl-C
        initargs=(signal.SIGINT, signal.SIG_IGN),
    )
    try:
        for future in as_completed([pool.submit(work, *task) for task in tasks]):
            yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def job_count(jobs: int, tasks: int) -> int:
    """Return the number of processes: 0 means one per core; never more than there are tasks."""
    return max(1, min(jobs or os.cpu_count() or 1, tasks))


def prefetch(
    make_batch: Callable[[int], T], start: int, stop: int, depth: int = 4, threads: int = 2
) -> Iterator[T]:
    """Yield make_batch(start), ..., make_batch(stop - 1) in order, computed ahead by threads."""
    waiting: deque = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for step in range(start, stop):
                waiting.append(pool.submit(make_batch, step))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for batch in waiting:
                batch.cancel()
