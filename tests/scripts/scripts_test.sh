#!/usr/bin/env bash
# What the scripts promise: each explains itself, and set-up knows what is missing without touching the machine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

# expect WHAT STATUS PATTERN COMMAND...: the command ends with this status and prints a line that matches.
expect() {
  local what=$1 status=$2 pattern=$3 got=0 output
  shift 3
  output=$("$@" 2>&1) || got=$?
  if [[ $got -ne $status ]] || ! grep -qE -- "$pattern" <<<"$output"; then
    echo "FAILED: $what: expected status $status and /$pattern/, got status $got and:"
    echo "$output"
    failures=$((failures + 1))
  fi
}

for script in scripts/*; do
  [[ -f $script ]] || continue
  expect "$script can be run" 0 '' test -x "$script"
  expect "$script explains itself" 0 '^usage: '"$script" "$script" --help
  expect "$script refuses what it does not know" 2 'unknown|unrecognized' "$script" --no-such-option
done

# A machine where nothing is installed and apt-get must not be called.
mkdir "$work/bin"
printf '#!/bin/sh\nexit 1\n' >"$work/bin/dpkg-query"
printf '#!/bin/sh\ntouch "%s/apt_was_called"\n' "$work" >"$work/bin/apt-get"
chmod +x "$work"/bin/*
printf 'ID=debian\nVERSION_ID="12"\n' >"$work/debian_12"
printf 'ID=ubuntu\nVERSION_ID="24.04"\n' >"$work/ubuntu_24_04"
printf 'ID=fedora\nVERSION_ID=41\n' >"$work/fedora"

bare() { env "HARRIER_OS_RELEASE=$work/$1" "PATH=$work/bin:$PATH" scripts/setup "${@:2}"; }
for system in debian_12 ubuntu_24_04; do
  expect "setup names what demo needs on $system" 0 'will be installed with apt: .*cmake .*llvm-19-dev' bare $system demo --dry-run
  expect "setup names what test adds on $system" 0 'libbenchmark-dev libgtest-dev .*clang-tidy-19' bare $system test --dry-run
  expect "setup names what bench adds on $system" 0 'libbenchmark-dev' bare $system bench --dry-run
done
expect "setup leaves other systems alone" 0 "'fedora 41'.*nothing is installed" bare fedora test
expect "setup still lists the packages there" 0 'needed, by their Debian names: .*llvm-19-dev' bare fedora test
expect "a dry run calls no apt-get" 1 '' test -e "$work/apt_was_called"

printf '#!/bin/sh\nprintf "ii "\n' >"$work/bin/dpkg-query"
expect "setup says when nothing is missing" 0 'everything that .test. needs is installed' bare debian_12 test
expect "setup on this machine knows what it would do" 0 '^setup: ' scripts/setup test --dry-run

# NVRTC: a machine without one, where Python's installer is only pretended.
printf '#!/bin/sh\nexit 1\n' >"$work/bin/ldconfig"
cat >"$work/bin/python3" <<'PRETEND'
#!/bin/sh
test "$1 $2" = "-m venv" || exit 9
folder="$3/lib/python3.11/site-packages/nvidia/cu13/lib"
mkdir -p "$3/bin" "$folder"
printf '#!/bin/sh\necho "pip $*"\ntouch "%s/libnvrtc.so.13"\n' "$folder" >"$3/bin/pip"
chmod +x "$3/bin/pip"
PRETEND
chmod +x "$work/bin/ldconfig" "$work/bin/python3"
mkdir "$work/local"
without_nvrtc() {
  env -u HARRIER_NVRTC -u CUDA_HOME "HARRIER_OS_RELEASE=$work/debian_12" "HARRIER_USR_LOCAL=$work/local" \
    "HARRIER_TOOLS=$work/tools" "PATH=$work/bin:$PATH" "$@"
}
expect "a dry run names NVRTC's package" 0 'NVRTC is missing; nvidia-cuda-nvrtc>=13\.0,<14 from PyPI will be installed' \
  without_nvrtc scripts/setup nvrtc --dry-run
expect "test brings NVRTC too" 0 'NVRTC is missing; nvidia-cuda-nvrtc' without_nvrtc scripts/setup test --dry-run
expect "demo does not" 1 '' grep -q NVRTC <(without_nvrtc scripts/setup demo --dry-run)
expect "a dry run brings no NVRTC" 1 '' test -e "$work/tools"
library="$work/tools/nvrtc/lib/python3.11/site-packages/nvidia/cu13/lib/libnvrtc.so.13"
expect "setup installs NVRTC and prints what to export" 0 "^  export HARRIER_NVRTC=$library\$" without_nvrtc scripts/setup nvrtc
printf '#!/bin/sh\nexit 9\n' >"$work/bin/python3"
expect "setup installs it once" 0 "^  export HARRIER_NVRTC=$library\$" without_nvrtc scripts/setup nvrtc
expect "setup says why there is no NVRTC" 1 'could not be installed: it needs python3-venv and PyPI' \
  without_nvrtc env "HARRIER_TOOLS=$work/empty" scripts/setup nvrtc
mkdir -p "$work/local/cuda-12.8/lib64"
touch "$work/local/cuda-12.8/lib64/libnvrtc.so.12"
expect "a toolkit beside is named" 0 "^  export HARRIER_NVRTC=$work/local/cuda-12.8/lib64/libnvrtc.so.12\$" \
  without_nvrtc env "HARRIER_TOOLS=$work/empty" scripts/setup nvrtc
ln -s cuda-12.8 "$work/local/cuda"
expect "the toolkit's is enough" 0 "NVRTC is here, $work/local/cuda/lib64/libnvrtc.so.12\$" without_nvrtc scripts/setup nvrtc
printf '#!/bin/sh\necho "\tlibnvrtc.so.13 (libc6,x86-64) => /opt/lib/libnvrtc.so.13"\n' >"$work/bin/ldconfig"
expect "the loader's is enough" 0 'NVRTC is here, /opt/lib/libnvrtc.so.13$' without_nvrtc scripts/setup nvrtc
expect "one that is named is enough" 0 "NVRTC is what HARRIER_NVRTC names, $library\$" \
  without_nvrtc env "HARRIER_NVRTC=$library" scripts/setup nvrtc

[[ $failures -eq 0 ]] || { echo "$failures failed" && exit 1; }
