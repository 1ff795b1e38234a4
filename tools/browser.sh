#!/bin/sh
# Chromium for the browser tests, where it can be had without asking: as root, with apt. Tried once; without it those tests are skipped
cd "$(dirname "$0")/.."
command -v chromium >/dev/null && exit 0
[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && [ ! -e .venv/no-chromium ] || exit 0
echo "installing chromium for the browser tests"
if ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive timeout 600 apt-get install -y -qq --no-install-recommends chromium fonts-liberation; } >.venv/apt.log 2>&1; then
  touch .venv/no-chromium
  echo "chromium could not be installed (.venv/apt.log); the browser tests are skipped"
fi
