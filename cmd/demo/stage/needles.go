package stage

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Needles are secrets that may stand nowhere: as text, in hexadecimal, in Base64,
// there also as a part of something longer.
type Needles [][]byte

// NewNeedles makes needles of secrets.
func NewNeedles(secrets ...string) Needles {
	var n Needles
	for _, v := range secrets {
		n = append(n, []byte(v), []byte(hex.EncodeToString([]byte(v))))
		for shift := range 3 {
			n = append(n, inBase64(v, shift))
		}
	}
	return n
}

// inBase64 is what stands in Base64 wherever the secret begins shift bytes after a
// whole group, without the characters that its neighbours have a part in.
func inBase64(v string, shift int) []byte {
	text := base64.RawStdEncoding.EncodeToString(append(make([]byte, shift), v...))
	return []byte(text[(shift*8+5)/6 : (shift+len(v))*8/6])
}

// Find says with an error where in b a secret stands. The error does not hold it.
func (n Needles) Find(where string, b []byte) error {
	for _, v := range n {
		if i := bytes.Index(b, v); i >= 0 {
			return fmt.Errorf("a secret stands in %s at byte %d", where, i)
		}
	}
	return nil
}

// FindIn looks into every file below the folders, of which there must be at least
// so many: a search that found nothing to read has shown nothing.
func (n Needles) FindIn(atLeast int, folders ...string) error {
	files := 0
	for _, root := range folders {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(path) //nolint:gosec // G304, G122: the stage's own folder
			if err != nil {
				return err
			}
			files++
			return n.Find(path, b)
		})
		if err != nil {
			return err
		}
	}
	if files < atLeast {
		return fmt.Errorf("only %d files were there to look for secrets in", files)
	}
	return nil
}
