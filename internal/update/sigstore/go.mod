// In place of github.com/sigstore/sigstore: see README.md.
module github.com/sigstore/sigstore

go 1.26
