package queue

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"gardu/internal/secret"
	"gardu/internal/txn"
)

// secretBlock is what a secret is padded to, so that its length does not show.
const (
	secretBlock = 64
	maxSecret   = 1024
)

// Magic numbers of file systems that live in memory (statfs(2)).
const (
	tmpfsMagic = 0x01021994
	ramfsMagic = 0x858458f6
)

// keyDir is the folder on tmpfs that holds the wrapped keys of secrets, one file
// each, and the only place where they are.
type keyDir struct {
	path string
	kek  KEK
	log  *slog.Logger

	sealing sync.RWMutex // held for reading from before a key is wrapped until its file stands

	mu     sync.Mutex // guards doomed
	doomed []string   // files that could not be destroyed yet
}

// openKeyDir creates the folder where missing and makes sure that what is
// deleted in it is gone.
func openKeyDir(opt *Options) (*keyDir, error) {
	path := opt.KeyDir
	bad := func(err error, hint string) error {
		return &Error{Op: "open key folder", Path: path, Err: fmt.Errorf("%w: %w", ErrKeyDir, err), Hint: hint}
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, bad(err, "create the runtime directory first (systemd: RuntimeDirectory=gardu) and let the service user own it")
	}
	fi, err := os.Lstat(path)
	if err != nil {
		return nil, bad(err, "")
	}
	if !fi.IsDir() {
		return nil, bad(errors.New("it is not a folder"), "remove what is in its place")
	}
	if fi.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(path, 0o700); err != nil { //nolint:gosec // a folder needs the x bit
			return nil, bad(err, "only the service user may read it: chmod 0700, and let the service user own it")
		}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return nil, bad(err, "")
	}
	if t := uint32(st.Type); t != tmpfsMagic && t != ramfsMagic && !opt.DangerousAllowKeyDirOnDisk { //nolint:gosec // the kernel's value has 32 bits
		return nil, bad(errors.New("it is on a disk, where deleted keys can be read again"),
			"use a folder on tmpfs, such as one below /run")
	}
	return &keyDir{path: path, kek: opt.PINKEK, log: opt.Log}, nil
}

// sealedSecret is a secret on its way into a record, its key already filed.
type sealedSecret struct {
	gen generation
	box []byte
}

// keyFile names the file of a secret's key. The generation is part of the name
// so that a new secret's key can be filed while the old record still stands.
func keyFile(id string, kind byte, gen generation) string {
	return id + "." + string(kindName(kind)) + "." + hex.EncodeToString(gen[:])
}

// isKeyFile tells our files from whatever else may lie in the folder.
func isKeyFile(name string) bool {
	id, rest, ok := strings.Cut(name, ".")
	kind, gen, ok2 := strings.Cut(rest, ".")
	if !ok || !ok2 || !validID(id) || kind != string(txn.SecretPIN) && kind != string(txn.SecretOTP) {
		return false
	}
	g, err := hex.DecodeString(gen)
	return err == nil && len(g) == genLen
}

func (h *header) keyFile() string {
	if h.kind == kindNone {
		return ""
	}
	return keyFile(h.id, h.kind, h.gen)
}

func secretAAD(label string, journal journalID, id string, kind byte, gen generation) []byte {
	return newAdditional(label, journal).text(id).bytes([]byte{kind}).bytes(gen[:])
}

const (
	secretLabel    = "gardu journal secret"
	secretKeyLabel = "gardu journal secret key"
)

// seal closes a secret under a key of its own and files that key.
func (d *keyDir) seal(ctx context.Context, journal journalID, id string, kind byte, s *secret.Value) (*sealedSecret, error) {
	if s.Len() == 0 || s.Len() > maxSecret {
		return nil, fmt.Errorf("secret has %d bytes, want 1 to %d: %w", s.Len(), maxSecret, ErrInvalid)
	}
	out := new(sealedSecret)
	for out.gen == (generation{}) { // zeros mean none
		_, _ = rand.Read(out.gen[:]) // never fails, see crypto/rand
	}
	d.sealing.RLock()
	defer d.sealing.RUnlock()
	aead, wrapped, err := randomKey(ctx, d.kek, secretAAD(secretKeyLabel, journal, id, kind, out.gen))
	if err != nil {
		return nil, err
	}
	plain := make([]byte, (2+s.Len()+secretBlock-1)/secretBlock*secretBlock)
	defer clear(plain)
	binary.BigEndian.PutUint16(plain, uint16(s.Len())) //nolint:gosec // at most maxSecret
	copy(plain[2:], s.Bytes())
	out.box = aead.Seal(nil, nil, plain, secretAAD(secretLabel, journal, id, kind, out.gen)) //nolint:gosec // the AEAD makes its own random nonce

	w := wrappedKey{created: sinceBoot(), kek: wrappedBy(d.kek, wrapped), wrapped: wrapped}
	b, err := w.encode(secretKeyMagic)
	if err != nil {
		return nil, err
	}
	if err := d.write(keyFile(id, kind, out.gen), b); err != nil {
		return nil, err
	}
	return out, nil
}

func (d *keyDir) write(name string, b []byte) error {
	path := filepath.Join(d.path, name)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600) //nolint:gosec // name is checked by validID
	if err != nil {
		return fmt.Errorf("file the secret's key: %w", err)
	}
	_, err = f.Write(b)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = os.Remove(path)
		return fmt.Errorf("file the secret's key: %w", err)
	}
	return nil
}

// open opens a secret. ErrSecretLost where its key is gone or opens nothing.
func (d *keyDir) open(ctx context.Context, journal journalID, h *header, box []byte) (*secret.Value, error) {
	b, err := os.ReadFile(filepath.Join(d.path, h.keyFile()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("request %s: %w", h.id, txn.ErrSecretLost)
	}
	if err != nil {
		return nil, fmt.Errorf("read the secret's key: %w", err)
	}
	w, err := parseWrappedKey(secretKeyMagic, b)
	if err != nil {
		return nil, fmt.Errorf("request %s: %w: %w", h.id, txn.ErrSecretLost, err)
	}
	aead, err := unwrapKey(ctx, d.kek, w.wrapped, secretAAD(secretKeyLabel, journal, h.id, h.kind, h.gen))
	if errors.Is(err, ErrKeyMismatch) {
		return nil, fmt.Errorf("request %s: %w: %w", h.id, txn.ErrSecretLost, err)
	}
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, nil, box, secretAAD(secretLabel, journal, h.id, h.kind, h.gen))
	if err != nil {
		return nil, fmt.Errorf("request %s: %w: the key does not open it", h.id, txn.ErrSecretLost)
	}
	defer clear(plain)
	if len(plain) < 2 || int(binary.BigEndian.Uint16(plain)) > len(plain)-2 {
		return nil, fmt.Errorf("request %s: secret has the wrong length: %w", h.id, txn.ErrSecretLost)
	}
	return secret.Clone(plain[2 : 2+binary.BigEndian.Uint16(plain)]), nil
}

// destroy overwrites and removes a key, which makes every copy of its secret
// unreadable. A file that is gone already is as good.
func (d *keyDir) destroy(name string) error {
	path := filepath.Join(d.path, name)
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOFOLLOW, 0) //nolint:gosec // name is checked by validID or isKeyFile
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("destroy the secret's key: %w", err)
	}
	fi, err := f.Stat()
	if err == nil {
		_, err = f.WriteAt(make([]byte, fi.Size()), 0)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if rerr := os.Remove(path); err == nil {
		err = rerr
	}
	if err != nil {
		return fmt.Errorf("destroy the secret's key: %w", err)
	}
	return nil
}

// mustDestroy destroys a key now or, where that fails, as soon as retry succeeds.
func (d *keyDir) mustDestroy(name string) {
	err := d.destroy(name)
	if err == nil {
		return
	}
	d.log.Error("key of a secret not destroyed", "file", name, "error", err)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.doomed = append(d.doomed, name)
}

// retry tries again what mustDestroy could not do, and returns how many are left.
func (d *keyDir) retry() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.doomed = slices.DeleteFunc(d.doomed, func(name string) bool { return d.destroy(name) == nil })
	return len(d.doomed)
}

// sweep destroys every key that is not to be kept.
func (d *keyDir) sweep(keep func(name string) bool) (destroyed int, err error) {
	list, err := os.ReadDir(d.path)
	if err != nil {
		return 0, fmt.Errorf("list key folder: %w", err)
	}
	var errs []error
	for _, e := range list {
		if !isKeyFile(e.Name()) || keep(e.Name()) {
			continue
		}
		if err := d.destroy(e.Name()); err != nil {
			errs = append(errs, err)
			continue
		}
		destroyed++
	}
	return destroyed, errors.Join(errs...)
}
