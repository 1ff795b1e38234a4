#!/bin/sh
# Make .venv (if needed) and install spd_nb into it: tools/venv.sh STAMP EXTRAS TORCH
set -eu
cd "$(dirname "$0")/.."
stamp=$1 extras=$2 torch=$3

# a stamp of another folder: the checkout was moved or copied, and a venv cannot follow
if [ ! -e "$stamp" ] && ls .venv/stamp-* >/dev/null 2>&1; then echo "making .venv anew: it belongs to another folder"; rm -rf .venv; fi

if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
  py=
  for p in "${PYTHON:-python3}" python3 python3.13 python3.12 python3.11 python; do
    if "$p" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then py=$p; break; fi
  done
  if [ -z "$py" ]; then
    echo "spd_nb needs Python 3.11 or newer with the venv module; none found (looked for python3, python3.13, python3.12, python3.11, python)."
    echo "Install one, or name it: make test PYTHON=/path/to/python3.12"
    exit 1
  fi >&2
  if "$py" -c 'import ensurepip' 2>/dev/null; then "$py" -m venv --clear .venv
  elif "$py" -m pip --version >/dev/null 2>&1; then "$py" -m venv --clear --without-pip .venv && "$py" -m pip --python .venv/bin/python install -q pip
  else
    pkg=$("$py" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
      echo "installing $pkg: $py has neither ensurepip nor pip"
      apt-get update -qq && apt-get install -y -qq "$pkg" && "$py" -m venv --clear .venv
    else
      echo "$py has neither ensurepip nor pip; install them first, on Debian or Ubuntu: sudo apt-get install $pkg" >&2
      exit 1
    fi
  fi
fi

pip() { .venv/bin/python -m pip install -q -q --log .venv/pip.log "$@" || { echo "pip could not install $*; .venv/pip.log has the details" >&2; exit 1; }; }

# torch first and alone: nothing installed after it may choose another one
echo "installing into .venv: $torch"
# shellcheck disable=SC2086
pip $torch
echo "installing into .venv: spd_nb[$extras] and what it needs"
pip -e ".[$extras]" -c constraints.txt
rm -f .venv/stamp-*
touch "$stamp"
