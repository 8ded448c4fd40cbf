#!/bin/sh
# Builds the pinned tools that are named into <repo>/bin/tools (or $TOCSIN_TOOLS_DIR), and nothing that is there already.
#
#   deploy/tools/install.sh buf golangci-lint
#   deploy/tools/install.sh --list
#
# Each tool has its own module, so that its dependencies are those that its authors tested and two tools never share a graph;
# the protobuf tools share the module of this folder. A stamp beside each binary holds the hash of
# go.mod, go.sum and the Go version it was built from: when the pin moves, the tool is built again.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
dest=${TOCSIN_TOOLS_DIR:-$here/../../bin/tools}

usage() {
	echo "usage: $0 [--list | --all | NAME...]" >&2
	echo "names: $(names | tr '\n' ' ')" >&2
}

names() {
	printf '%s\n' buf protoc-gen-go protoc-gen-go-grpc
	for mod in "$here"/*/go.mod; do
		basename "$(dirname "$mod")"
	done
}

# module NAME: the folder whose go.mod pins NAME.
module() {
	case $1 in
	buf | protoc-gen-go | protoc-gen-go-grpc) echo "$here" ;;
	*) echo "$here/$1" ;;
	esac
}

[ $# -gt 0 ] || { usage; exit 2; }
case $1 in
--list) names; exit 0 ;;
--all) shift; set -- $(names) ;;
-*) usage; exit 2 ;;
esac

for name in "$@"; do
	if ! names | grep -qx -- "$name"; then
		echo "$0: no pinned tool is called $name" >&2
		usage
		exit 2
	fi
done

command -v go >/dev/null || { echo "$0: Go is missing: https://go.dev/doc/install" >&2; exit 1; }
export GOWORK=off GOFLAGS=-mod=readonly CGO_ENABLED=0
mkdir -p "$dest"
dest=$(CDPATH='' cd -- "$dest" && pwd)
go=$(go env GOVERSION GOOS GOARCH | tr '\n' ' ')

for name in "$@"; do
	mod=$(module "$name")
	stamp=$dest/.$name.stamp
	want=$( (echo "$go"; cat "$mod/go.mod" "$mod/go.sum") | sha256sum | cut -d' ' -f1)
	if [ -x "$dest/$name" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$want" ]; then
		continue
	fi
	pkg=$(cd "$mod" && go list tool | grep -E "/$name\$|/$name/v[0-9]+\$" || true)
	[ -n "$pkg" ] || { echo "$0: $mod/go.mod has no tool directive for $name" >&2; exit 1; }
	echo "building $name" >&2
	# A build goes to a name of its own first: a run that is stopped leaves no half a tool, and two at once do not collide.
	tmp=$dest/.$name.$$
	(cd "$mod" && go build -trimpath -o "$tmp" "$pkg") || { rm -f "$tmp"; exit 1; }
	mv "$tmp" "$dest/$name"
	echo "$want" >"$stamp"
done
