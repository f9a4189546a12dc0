#!/usr/bin/env bash
# Builds the control plane that the lab runs (etcd, kube-apiserver, kwok), and
# kube-scheduler, to which Understudy is compared, from the versions in go.mod into ../bin. Does nothing when they are there already: a
# stamp records the module versions, the compiler and the flags they are from.
set -euo pipefail
cd "$(dirname "$0")"
bin=../bin
stamp=$bin/.tools

flags=(-ldflags '-s -w')
kubernetes=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
# Without this they take their version for unknown, and say so.
minor=${kubernetes#v1.}
pkg=k8s.io/component-base/version
kubernetes_flags=(-ldflags "-s -w -X $pkg.gitVersion=$kubernetes -X $pkg.gitMajor=1 -X $pkg.gitMinor=${minor%%.*}")

want=$({
  go version
  go env GOFLAGS GOEXPERIMENT GOAMD64 CGO_ENABLED
  printf '%s\n' "${flags[@]}" "${kubernetes_flags[@]}"
  cat go.mod go.sum
} | sha256sum | cut -d' ' -f1)

complete=yes
for tool in etcd kube-apiserver kube-scheduler kwok; do
  [[ -x $bin/$tool ]] || complete=no
done
if [[ $complete == yes && -f $stamp && $(<"$stamp") == "$want" ]]; then
  echo "tools: bin/etcd, bin/kube-apiserver, bin/kube-scheduler and bin/kwok are up to date"
  exit 0
fi

mkdir -p "$bin"
rm -f "$stamp"
build() { # name, package, flags
  local name=$1 package=$2 start=$SECONDS
  shift 2
  echo "tools: building bin/$name from $package $(go list -f '{{.Module.Version}}' "$package")"
  go build "$@" -o "$bin/$name" "$package"
  echo "tools: bin/$name took $((SECONDS - start)) s"
}
echo "tools: the first build compiles a Kubernetes API server from source: some minutes on two cores"
build etcd go.etcd.io/etcd/server/v3 "${flags[@]}"
build kube-apiserver k8s.io/kubernetes/cmd/kube-apiserver "${kubernetes_flags[@]}"
build kube-scheduler k8s.io/kubernetes/cmd/kube-scheduler "${kubernetes_flags[@]}"
build kwok sigs.k8s.io/kwok/cmd/kwok "${flags[@]}"
echo "$want" >"$stamp"
echo "tools: ready after $SECONDS s"
