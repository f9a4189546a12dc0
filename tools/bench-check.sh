#!/usr/bin/env bash
# Compares the benchmarks of the hot path, from a pod's arrival to its Binding and to the
# understudies' ledger, with those of the commit in tools/baseline, or of another one:
#
#   tools/bench-check.sh [COMMIT]
#
# Both are built here and run in turns, so that what else the machine does hits both. Times
# are shown. Allocations do not depend on the machine: the script fails if any benchmark
# makes significantly more of them, by over 5 %. ROUNDS says how often each runs (6).
set -euo pipefail
cd "$(dirname "$0")/.."
base=${1:-$(<tools/baseline)}
rounds=${ROUNDS:-6}
git rev-parse --quiet --verify "$base^{commit}" >/dev/null || {
  echo "bench-check: the commit $base is not here: fetch it, or name another one" >&2
  exit 2
}
# package, benchmarks, how long or how often
hot='replica/ledger ^BenchmarkStep$ 0.3s
replica/record ^Benchmark(En|De)code 0.3s
replica/view ^BenchmarkFollow$ 0.3s
coordinator/managers/general ^BenchmarkPod 0.3s
coordinator/kube ^BenchmarkBind 0.3s
coordinator/engine ^BenchmarkBurst$ 2000x
coordinator/engine/predicates ^BenchmarkFits$ 0.3s'

work=$(mktemp -d)
trap 'git worktree remove --force "$work/base" 2>/dev/null; rm -rf "$work"' EXIT
git worktree add --quiet --detach "$work/base" "$base"
(cd tools/benchstat && go build -o "$work/benchstat" golang.org/x/perf/cmd/benchstat)
build() { # tree, name
  local package rest
  while read -r package rest; do
    (cd "$1" && go test -vet=off -c -o "$work/$2-${package//\//-}" "./$package")
  done <<<"$hot"
}
build "$work/base" before
build . now

run() { # tree, name
  local package pattern length failed=0
  while read -r package pattern length; do
    (cd "$1/$package" && "$work/$2-${package//\//-}" -test.run '^$' -test.bench "$pattern" -test.benchtime "$length" -test.benchmem) </dev/null || failed=1
  done <<<"$hot"
  return $failed
}
for ((round = 1; round <= rounds; round++)); do
  echo "bench-check: round $round of $rounds" >&2
  run "$work/base" before >>"$work/before" || true # what fails there is not compared
  run . now >"$work/round" || { cat "$work/round" >&2; exit 1; }
  cat "$work/round" >>"$work/now"
done
"$work/benchstat" before="$work/before" now="$work/now"
"$work/benchstat" -format csv before="$work/before" now="$work/now" 2>/dev/null | awk -F, '
  $1 == "" { unit = $2 }
  # From the end: a name may hold commas. The change is "?" where there were none before.
  unit == "allocs/op" && $1 != "geomean" && NF > 3 && ($(NF-1) == "?" || $(NF-1) ~ /^\+/ && $(NF-1) + 0 > 5) {
    print "bench-check: more allocations (benchmark, before, spread, now, spread, change, significance): " $0
    failed = 1
  }
  END { exit failed }' >&2
echo "bench-check: no benchmark makes more allocations than at $base"
