"""The copies of real data sets, where there are any."""

import subprocess
import sys
from pathlib import Path

import pytest

SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(scope="session")
def real_sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the publishers' files in `ml-1m`, `kuairand-pure` and `amazon-beauty`."""
    if not (SHARED / "unpack.py").is_file():
        pytest.skip("no copies of real data sets in ../shared/data")
    directory = tmp_path_factory.mktemp("real")
    subprocess.run([sys.executable, str(SHARED / "unpack.py"), str(directory)], check=True, capture_output=True)
    return directory
