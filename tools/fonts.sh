#!/usr/bin/env bash
# fonts.sh: make the screen's two fonts anew from the npm packages of Fontsource (SIL Open Font License, kept beside them):
# the weights and characters that the page uses, and no more. The files are committed; run this only to change them.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v npm >/dev/null || { echo 'fonts: npm is missing; install Node.js, then run this again' >&2; exit 1; }
tools/deps.sh fonttools python3-brotli
out=$PWD/internal/ui/page/fonts
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$work" \
	@fontsource-variable/atkinson-hyperlegible-next@5.3.0 @fontsource-variable/atkinson-hyperlegible-mono@5.3.0

# Basic Latin, no-break space, and the signs that the texts use.
chars='U+0020-007E,U+00A0,U+00B7,U+00D7,U+2013,U+2014,U+2018,U+2019,U+201C,U+201D,U+2022,U+2026'
font() { # PACKAGE WEIGHTS
	fonttools varLib.instancer -q -o "$work/$1.ttf" "$work/node_modules/@fontsource-variable/$1/files/$1-latin-wght-normal.woff2" "wght=$2"
	pyftsubset "$work/$1.ttf" --unicodes="$chars" --layout-features='kern,liga,calt,ccmp,mark,mkmk,tnum,zero' \
		--flavor=woff2 --desubroutinize --no-hinting --output-file="$out/${1#atkinson-hyperlegible-}.woff2"
	cp "$work/node_modules/@fontsource-variable/$1/LICENSE" "$out/${1#atkinson-hyperlegible-}.OFL.txt"
}
mkdir -p "$out"
font atkinson-hyperlegible-next 400:700
font atkinson-hyperlegible-mono 600
ls -l "$out"
