package update

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// ErrPatch says that a patch does not lead to the program that was signed. The whole file
// does.
var ErrPatch = errors.New("the patch does not give the program that was signed")

// MaxPatchWindow bounds the memory in which a patch looks back, and so the length
// of the program that it is made from.
const MaxPatchWindow = 64 << 20

// applyPatch makes t in dir out of the program that runs and a patch: a zstd frame
// whose dictionary is the old program.
func applyPatch(old, patch string, t Target, dir string) (path string, err error) {
	base, err := readFile(old, MaxPatchWindow)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrPatch, err)
	}
	in, _, err := openRegular(patch)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrPatch, err)
	}
	defer in.Close()
	dec, err := zstd.NewReader(in, zstd.WithDecoderDictRaw(0, base), zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderMaxWindow(MaxPatchWindow), zstd.WithDecoderMaxMemory(maxProgram), zstd.WithDecoderLowmem(true))
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrPatch, err)
	}
	defer dec.Close()
	path = filepath.Join(dir, t.SHA256+".patched")
	out, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC|unix.O_NOFOLLOW, 0o644) //nolint:gosec // G302: releases are public
	if err != nil {
		return "", roomFor(err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(path)
		}
	}()
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(out, sum), io.LimitReader(dec, t.Length+1))
	err = errors.Join(err, out.Sync(), out.Close())
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrPatch, roomFor(err))
	}
	if n != t.Length || hex.EncodeToString(sum.Sum(nil)) != t.SHA256 {
		return "", ErrPatch
	}
	return path, nil
}

// MakePatch writes a patch from one program to another.
func MakePatch(old, program []byte, w io.Writer) error {
	if len(old) > MaxPatchWindow || len(program) > maxProgram {
		return fmt.Errorf("a patch is made from at most %d bytes", MaxPatchWindow)
	}
	window := zstd.MinWindowSize
	for window < len(old)+len(program) && window < MaxPatchWindow {
		window *= 2
	}
	enc, err := zstd.NewWriter(w, zstd.WithEncoderDictRaw(0, old), zstd.WithWindowSize(window),
		zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	if _, err := enc.Write(program); err != nil {
		return errors.Join(err, enc.Close())
	}
	return enc.Close()
}
