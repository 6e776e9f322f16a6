"""The yardstick of the latency benchmark: one warm `requests` session that posts the same body again and again. Nothing else.

A process of its own (`python bench/bare.py URL FILE`), so that nothing of the runner is in its way. The first line on standard
input is the body; each further line asks for one post and then one durable SQLite commit of the same text into FILE, which is to
be on the journal's disk. The answer is a line of three times in nanoseconds (`perf_counter_ns`): before the post, after it, and
how long the commit took.
"""

import sqlite3
import sys
import time

import requests


def main() -> None:
    url, file = sys.argv[1:]
    body = sys.stdin.readline().strip().encode()
    headers = {"Content-Type": "application/json"}
    database = sqlite3.connect(file, isolation_level=None)
    for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "CREATE TABLE records (body BLOB)"):
        database.execute(statement)
    with requests.Session() as session:
        for _ in sys.stdin:
            before_ns = time.perf_counter_ns()
            answer = session.post(url, data=body, headers=headers, timeout=10)
            after_ns = time.perf_counter_ns()
            answer.raise_for_status()
            commit_ns = time.perf_counter_ns()
            database.execute("INSERT INTO records VALUES (?)", (body,))
            print(before_ns, after_ns, time.perf_counter_ns() - commit_ns, flush=True)
    database.close()


if __name__ == "__main__":
    main()
