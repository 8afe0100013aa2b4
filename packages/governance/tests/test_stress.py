import subprocess
import sys
from pathlib import Path

import pytest

STRESS = Path(__file__).with_name("stress.py")


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [10])
def test_threads_and_loops_under_dev_mode_break_no_promise(seconds: int) -> None:
    run = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", str(STRESS), str(seconds)],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert run.returncode == 0, run.stderr[-4000:]
    # asyncio also says how long each step took where all threads share one core.
    said = [line for line in run.stderr.splitlines() if not line.startswith("Executing <")]
    assert said == []


def test_a_short_run_breaks_no_promise() -> None:
    run = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", str(STRESS), "0.5"],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert run.returncode == 0, run.stderr[-4000:]
