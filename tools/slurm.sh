#!/bin/sh
# SLURM for tests/test_slurm.py, where it can be had without asking: as root, with apt. Tried once; without it those tests are skipped
cd "$(dirname "$0")/.."
for c in slurmctld slurmd sbatch munged; do command -v $c >/dev/null || missing=1; done
[ -n "$missing" ] || exit 0
[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && [ ! -e .venv/no-slurm ] || exit 0
echo "installing slurm for its tests"
if ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive timeout 600 apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client munge; } >.venv/apt-slurm.log 2>&1; then
  touch .venv/no-slurm
  echo "slurm could not be installed (.venv/apt-slurm.log); its tests are skipped"
fi
