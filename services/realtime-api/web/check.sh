#!/bin/sh
# Checks that internal/page/dist is what web/ builds now, and that nothing in the page could run foreign markup.
# Needs node and npm; installs exactly what package-lock.json says.
set -eu
cd "$(dirname "$0")"
[ -d node_modules ] && [ "${CI:-}" = "" ] || npm ci --no-progress
if grep -nE 'innerHTML|outerHTML|insertAdjacentHTML|document\.write|dangerouslySetInnerHTML|\beval\(|new Function' -r src; then
	echo "web/src: markup or code made from strings is not allowed" >&2
	exit 1
fi
if grep -nE '"resolved": "https?://' package-lock.json | grep -v '"https://registry\.npmjs\.org/'; then
	echo "package-lock.json names another registry" >&2
	exit 1
fi
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
TOCSIN_PAGE_OUT="$out" npm run --silent build >"$out.log" 2>&1 || { cat "$out.log" >&2; rm -f "$out.log"; exit 1; }
rm -f "$out.log"
if ! diff -rq "$out" ../internal/page/dist; then
	echo "internal/page/dist is not what web/ builds: run 'npm run build' in web/ and commit the result" >&2
	exit 1
fi
echo "page: up to date"
