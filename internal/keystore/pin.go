package keystore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"gardu/internal/secret"
)

// PINOrigin identifies one state of the place a PIN comes from. It changes when
// somebody puts another PIN there, and is no function of the PIN itself: it is
// stored on disk after a wrong PIN, where a thief could try all short PINs
// against anything computed from it.
type PINOrigin string

// PINSource returns the token's PIN, which the caller wipes, and where it stands.
type PINSource func(context.Context) (*secret.Value, PINOrigin, error)

// pinFileMax is more than any token takes.
const pinFileMax = 256

// PINFile reads the PIN from a file, one trailing newline taken off. The file
// may not be readable by everyone. Its origin is the file's number and time of
// last change, which the kernel keeps.
func PINFile(path string) PINSource {
	return func(context.Context) (*secret.Value, PINOrigin, error) {
		f, err := os.Open(path) //nolint:gosec // the path comes from the local configuration
		if err != nil {
			return nil, "", configuration("token PIN: %v; create the file with the token's PIN in it", err)
		}
		defer func() { _ = f.Close() }()
		st, err := f.Stat()
		if err != nil {
			return nil, "", configuration("token PIN: %v", err)
		}
		if st.Mode().Perm()&0o026 != 0 {
			return nil, "", configuration("token PIN: everyone can read %s or others can write it; run chmod 0400 on it", path)
		}
		pin, err := readPIN(f, path)
		if err != nil {
			return nil, "", err
		}
		return pin, changeTime(path, st), nil
	}
}

// PINCredential reads the PIN from the systemd credential name, in the folder
// that $CREDENTIALS_DIRECTORY names. systemd makes that copy anew at each start,
// so the origin is that of sealed, the encrypted file the credential was made
// from: its digest, or its time of last change where the agent may not read it.
func PINCredential(name, sealed string) PINSource {
	return func(context.Context) (*secret.Value, PINOrigin, error) {
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		if dir == "" {
			return nil, "", configuration("token PIN: $CREDENTIALS_DIRECTORY is not set; start gardu by its systemd unit with LoadCredentialEncrypted=%s, or configure a PIN file", name)
		}
		origin, err := sealedOrigin(sealed)
		if err != nil {
			return nil, "", err
		}
		path := filepath.Join(dir, name)
		f, err := os.Open(path) //nolint:gosec // systemd's folder
		if err != nil {
			return nil, "", configuration("token PIN: %v; name the credential in the unit's LoadCredentialEncrypted=", err)
		}
		defer func() { _ = f.Close() }()
		pin, err := readPIN(f, path)
		if err != nil {
			return nil, "", err
		}
		return pin, origin, nil
	}
}

func sealedOrigin(path string) (PINOrigin, error) {
	f, err := os.Open(path) //nolint:gosec // the path comes from the local configuration
	if errors.Is(err, fs.ErrPermission) {
		st, err := os.Stat(path)
		if err != nil {
			return "", configuration("token PIN: %v; name the sealed credential's file", err)
		}
		return changeTime(path, st), nil
	}
	if err != nil {
		return "", configuration("token PIN: %v; name the sealed credential's file", err)
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, io.LimitReader(f, 1<<20)); err != nil {
		return "", configuration("token PIN: read the sealed credential: %v", err)
	}
	return PINOrigin("sealed " + path + " sha256=" + hex.EncodeToString(h.Sum(nil))), nil
}

func changeTime(path string, st fs.FileInfo) PINOrigin {
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return PINOrigin("file " + path)
	}
	return PINOrigin(fmt.Sprintf("file %s dev=%d ino=%d changed=%d.%09d", path, sys.Dev, sys.Ino, sys.Ctim.Sec, sys.Ctim.Nsec))
}

// readPIN reads all of f. Its errors say nothing about what it read.
func readPIN(f io.Reader, path string) (*secret.Value, error) {
	// One buffer of a fixed size: a growing one would leave copies behind.
	buf := make([]byte, pinFileMax+1)
	n, err := io.ReadFull(f, buf)
	if err == nil || (!errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF)) {
		clear(buf)
		if err == nil {
			err = fmt.Errorf("it is longer than %d bytes", pinFileMax)
		}
		return nil, configuration("token PIN: %s: %v", path, err)
	}
	pin := bytes.TrimSuffix(buf[:n], []byte{'\n'})
	if why := unfitPIN(pin); why != "" {
		clear(buf)
		return nil, configuration("token PIN: %s %s; write the PIN alone into it, with at most one newline after it", path, why)
	}
	return secret.New(pin), nil
}

func unfitPIN(pin []byte) string {
	if len(pin) == 0 {
		return "is empty"
	}
	for _, c := range pin {
		if c < ' ' || c == 0x7f {
			return "holds a control character or a second line"
		}
	}
	return ""
}
