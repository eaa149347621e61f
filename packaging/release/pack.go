//go:build ignore

// Pack compresses a file with Go's own gzip, so that the bytes hang on the Go version
// alone, which go.mod names, and on no machine's programs.
//
//	go run pack.go FROM TO
package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
)

func main() {
	if err := pack(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

func pack(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("usage: pack FROM TO")
	}
	from, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	var to bytes.Buffer
	w, err := gzip.NewWriterLevel(&to, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := w.Write(from); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return os.WriteFile(args[1], to.Bytes(), 0o644)
}
