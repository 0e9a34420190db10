"""`python -m benchmarks`: every benchmark, one after another."""

from benchmarks.arrivals import measure_arrivals
from benchmarks.cleansing import measure_cleansing
from benchmarks.compute import measure_compute
from benchmarks.loop import measure_loop
from benchmarks.near_duplicates import measure_near_duplicates
from benchmarks.results import run_benchmarks

if __name__ == "__main__":
    run_benchmarks(
        "Farmy", [measure_cleansing, measure_compute, measure_near_duplicates, measure_arrivals, measure_loop]
    )
