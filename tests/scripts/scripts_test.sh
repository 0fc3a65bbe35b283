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

[[ $failures -eq 0 ]] || { echo "$failures failed" && exit 1; }
