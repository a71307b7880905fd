"""Kernels that are right give the right results in every order; kernels that are wrong are caught.

The kernels are in the C++ files of this folder, as cases of the program `simt_tests`.
"""

import subprocess
from pathlib import Path

import pytest
from orders import ORDERS

RIGHT = [
    "shuffles",
    "votes_and_reductions",
    "barrier_votes",
    "named_barriers",
    "mbarrier_ring",
    "polling",
    "fragments",
    "mma_half",
    "mma_bfloat16",
    "mma_tf32",
    "to_tf32",
    "tiles",
    "product_bfloat16",
    "product_half",
    "half_patterns",
    "half_rounding",
    "bfloat16_patterns",
    "bfloat16_rounding",
    "float16_functions",
    "bit_functions",
    "every_thread_once",
    "last_block_sums",
    "atomics",
    "memory_starts_as_nan",
    "launch_limits",
    "copies",
    "memory_limit",
    "graph_replays",
    "capture_forbids",
    "failure_passes",
]

# Errors that the emulator reports by itself, and what the report says.
REPORTED = {
    "shuffle_outside_mask": "__shfl_sync with mask 0x0000ffff: lane 0 reads lane 20, which the mask lacks",
    "caller_outside_mask": "__ballot_sync with mask 0x0000ffff, which lacks the calling lane",
    "divergent_collective": "divergent collective: ",
    "different_masks": "divergent collective: ",
    "ended_lane": "divergent collective: lane 9 ended, but lane",
    "partial_warp": "needs lanes 8-31, which the block does not have",
    "deadlock": "deadlock: no thread of the block can go on",
    "unequal_counts": "by another operation or with another number of threads",
    "odd_count": "40 threads are not a multiple of the warp's 32",
    "raw_mbarrier": "mbarrier_arrive: this memory holds no mbarrier",
    "mbarrier_deadlock": "deadlock: no thread of the block can go on",
    "hopeless_polling": "livelock: threads poll, and nobody else can run",
    "misaligned_rows": "ldmatrix: the address shared memory + 8 is not a multiple of 16",
    "rows_outside_shared": "is not in shared memory, whose dynamic part has 1024 bytes",
    "ldmatrix_by_half_a_warp": "divergent collective: ",
    "misaligned_copy": "cp.async: the global address is not a multiple of 16",
    "shared_overrun": "a write at byte 128 of 128 bytes of dynamic shared memory",
    "shared_underrun": "a write 4 bytes before 128 bytes of dynamic shared memory",
    "global_overrun": "a write at byte 128 of 128 bytes of global memory",
    "null_pointer": "illegal memory access at address (nil)",
    "division_by_zero": "integer division by zero",
    "stack_overflow": "stack overflow: a thread has",
    "throwing": "exception: vector::_M_range_check",
}

# Errors that show as wrong results, and the orders in which all of 20 seeds see them. The others
# may miss them: in a round-robin order all warps keep step even where no barrier makes them.
ALL = frozenset(ORDERS)
MISSED = {
    "missing_syncwarp": ALL,
    "tiles_without_first_barrier": ALL,
    "tiles_without_second_barrier": ALL,
    "product_without_first_barrier": {"run_ahead"},
    "product_without_second_barrier": {"run_ahead"},
    "product_without_wait": ALL,
    "product_with_late_wait": ALL,
    "product_without_commit": ALL,
}

BEYOND_GUARDS = {"global_overread"}  # a read: only AddressSanitizer sees it


def test_simt_lists_name_every_case(simt_tests: Path):
    listed = subprocess.run([simt_tests, "--list"], capture_output=True, text=True, check=True)
    assert set(listed.stdout.split()) == {*RIGHT, *REPORTED, *MISSED, *BEYOND_GUARDS}


@pytest.mark.parametrize("case", RIGHT)
def test_simt_right_kernel_is_right_in_every_order(run_case, case: str):
    for order in ORDERS:
        assert run_case(case, order, count=5) == ["ok"] * 5, order


@pytest.mark.parametrize("case", REPORTED)
def test_simt_wrong_kernel_is_reported_in_every_order(run_case, case: str):
    for order in ORDERS:
        for outcome in run_case(case, order, count=3):
            assert outcome.startswith("error: cudaErrorLaunchFailure: "), order
            assert REPORTED[case] in outcome, order


@pytest.mark.parametrize("case", MISSED)
def test_simt_missing_synchronisation_gives_wrong_results(run_case, case: str):
    seen = set()
    for order in ORDERS:
        outcomes = run_case(case, order, count=20)
        assert all(outcome == "ok" or outcome.startswith("wrong: ") for outcome in outcomes)
        if "ok" not in outcomes:
            seen.add(order)
    assert seen == MISSED[case]


def test_simt_round_robin_misses_what_run_ahead_sees(run_case):
    """Why the extreme orders are there."""
    assert run_case("product_without_second_barrier", "round_robin", count=20) == ["ok"] * 20
    assert run_case("product_without_second_barrier", "run_ahead", count=20) == ["wrong: error nan"] * 20


def test_simt_deadlock_report_says_where_each_warp_waits(run_case):
    (outcome,) = run_case("deadlock", "round_robin", seed=3)
    lines = [line.strip() for line in outcome.split("|")]
    assert lines[0].endswith("deadlock: no thread of the block can go on")
    assert "deadlock_kernel(int*), block (0, 0, 0), thread (" in lines[1]
    assert lines[1].endswith("grid (1, 1, 1) of blocks (96, 1, 1), order round_robin, seed 3")
    assert lines[2:] == [
        "warp 0: lanes 0-31 wait at __syncthreads, barrier 0 (40 of 96 threads have come)",
        "warp 1: lanes 8-31 wait at __shfl_sync with mask 0xffffffff",
        "warp 1: lanes 0-7 wait at __syncthreads, barrier 0 (40 of 96 threads have come)",
        "warp 2: lanes 0-31 wait at named_barrier_sync, barrier 2 (32 of 96 threads have come)",
    ]


def test_simt_mbarrier_report_counts_arrivals(run_case):
    (outcome,) = run_case("mbarrier_deadlock")
    state = "shared memory + 0 for phase parity 0 (32 of 64 arrivals in the phase of parity 0)"
    assert f"warp 0: lanes 0-31 wait at mbarrier_wait, {state}" in outcome


def test_simt_same_seed_repeats_the_same_run(run_case):
    first = run_case("product_without_second_barrier", "random", count=20)
    assert len(set(first)) == 2  # some seeds see it, some do not
    assert run_case("product_without_second_barrier", "random", count=20) == first
    assert run_case("product_without_second_barrier", "random", seed=7) == first[7:8]


# -- under AddressSanitizer and UndefinedBehaviorSanitizer ----------------------------------------------


@pytest.mark.parametrize("case", ["shared_overrun", "shared_underrun", "global_overrun", "global_overread"])
def test_simt_sanitizer_stops_at_the_access(run_sanitized, case: str):
    result = run_sanitized(case, "random")
    assert result.returncode != 0
    assert "AddressSanitizer: use-after-poison" in result.stderr
    assert f"{case}_kernel" in result.stderr.splitlines()[3]


@pytest.mark.parametrize("case", [*RIGHT, "deadlock", "divergent_collective", "throwing"])
def test_simt_emulator_itself_is_clean(run_sanitized, case: str):
    result = run_sanitized(case, "random")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("ok" if case in RIGHT else "error: cudaErrorLaunchFailure")
