# Sourced by the commands beside it: `environment EXTRAS` makes .venv, or brings it up to date.
# VENV and CONSTRAINTS name another folder, and another list of versions.

# Print the first Python that is new enough and can make virtual environments.
find_python() {
  local python
  for python in "${PYTHON:-python3}" python3.13 python3.12 python3.11 python3.10 /usr/bin/python3; do
    if "$python" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
      echo "$python"
      return
    fi
  done
  echo "No Python 3.10 or newer with venv was found. Install one (Debian: apt install python3-venv), or set PYTHON." >&2
  return 1
}

# Install the project, editable, with the extras given, in the versions of the lock; nothing is done while that and
# pyproject.toml stay the same.
environment() {
  local extras=$1 venv=${VENV:-.venv} lock=${CONSTRAINTS:-constraints.txt} alone=tests/zoo/packages.txt
  local python stamp told=-qq
  if [ ! -x "$venv/bin/python" ]; then
    python=$(find_python)
    echo "Making $venv with $("$python" --version)"
    "$python" -m venv "$venv"
  fi
  stamp=$venv/installed-$extras-$(cat pyproject.toml "$lock" "$alone" | cksum | tr ' ' '-')
  if [ ! -e "$stamp" ]; then
    echo "Installing campfire-fx[$extras] into $venv (a few minutes the first time: PyTorch is large)"
    [ ! -t 1 ] || told=--progress-bar=on  # on a terminal, pip's own bars show how far it is
    local install=("$venv/bin/python" -m pip install "$told" --disable-pip-version-check)
    # What builds the project comes from the lock too, so that no build depends on the day.
    "${install[@]}" --constraint "$lock" --upgrade setuptools
    "${install[@]}" --constraint "$lock" --no-build-isolation --editable ".[$extras]"
    [ "$extras" != dev ] || "${install[@]}" --no-deps --requirement "$alone"
    touch "$stamp"
  fi
}
