"""Many scenes on a Dask cluster: start two workers here, restore a folder on them, sum up.

    python docs/scenes_on_dask.py 'scenes/*.tif' out --sar-dir s1

On a cluster that runs already, `pellucid remove-clouds ... --scheduler tcp://HOST:8786` is all it takes. Its
workers need pellucid, the same paths, one thread (`dask worker --nthreads 1`) and 3 GB each.
"""

import subprocess
import sys

from distributed import LocalCluster


def main(scenes: str, out: str, *options: str) -> int:
    """Return the exit code of pellucid: 0, or 1 if a scene failed."""
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        command = ["pellucid", "remove-clouds", scenes, "-o", out, "--scheduler", cluster.scheduler_address]
        code = subprocess.run([*command, *options], check=False).returncode
    subprocess.run(["pellucid", "status", out], check=False)
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
