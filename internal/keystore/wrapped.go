package keystore

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"gardu/internal/keystore/protocol"
	"gardu/internal/secret"
)

// WrappedKey is the exception to "every key lives in the token": a secret or AES
// key that the token cannot hold (a TPM has no AES-192) is kept in a file, wrapped by
// a key that the token can hold, and unwrapped into this program's memory. Who reads
// this program's memory then has the key, which is what a token is there to prevent.
// So it is done only for the keys that the configuration names, and said loudly.
type WrappedKey struct {
	Key  string // the URI that the role names
	File string // absolute; mode 0600, owned by root or by this user
	By   string // the wrapping key's URI, as Wrapper takes it
}

// held is one such key.
type held struct {
	s    *Store
	name string // its URI
	base string
	spec WrappedKey
	by   *Wrapper

	mu   sync.RWMutex // guards what follows
	info KeyInfo
	kind Kind
	mem  []byte // the value, in memory that is locked and not dumped; nil before it is used
	size int

	enlisted bool
}

// holdWrapped takes the wrapping keys of all wrapped keys, once.
func (s *Store) holdWrapped() error {
	s.held = map[string]*held{}
	for _, w := range s.opts.Wrapped {
		u, err := ParseURI(w.Key)
		if err != nil {
			return err
		}
		h := &held{s: s, name: u.object().String(), base: u.Object, spec: w}
		switch {
		case u.Object == "" || len(u.ID) > 0 || u.Type != "" && u.Type != "secret-key":
			return explain("wrap", h.name, configuration("a wrapped key is named by object= alone"))
		case !filepath.IsAbs(w.File):
			return explain("wrap", h.name, configuration("the file of a wrapped key needs an absolute path"))
		case s.held[u.Object] != nil:
			return explain("wrap", h.name, configuration("it is named twice as wrapped"))
		}
		if h.by, err = s.Wrapper(w.By); err != nil {
			return err
		}
		s.held[u.Object] = h
		s.opts.Log.Warn("A KEY IS NOT KEPT IN THE TOKEN: it stands wrapped in a file and is unwrapped into memory, as the configuration says",
			"key", h.name, "file", w.File, "wrapped_by", h.by.ID())
	}
	return nil
}

// heldAs is the wrapped key of a role's name; nil where the name is not wrapped.
func (s *Store) heldAs(k *key) *held {
	h := s.held[k.uri.Object]
	if h == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.enlisted {
		h.enlisted = true
		s.enlist(h)
	}
	return h
}

// wrappedFile is the file's content.
type wrappedFile struct {
	What    string `json:"what"`
	Version int    `json:"version"`
	Name    string `json:"name"`
	Kind    string `json:"kind"`
	KCV     string `json:"check_value"`
	By      string `json:"wrapped_by"`
	Wrapped string `json:"wrapped"` // base64
}

const (
	wrappedWhat    = "a key of gardu, wrapped by a key of the token"
	wrappedVersion = 1
)

func (f *wrappedFile) kind() Kind { return Kind(f.Kind) }

func (f *wrappedFile) sealed() ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(f.Wrapped)
	if err != nil {
		return nil, fmt.Errorf("%w: the file holds no wrapped key", ErrKeyGiven)
	}
	return b, nil
}

// wrappedAAD binds the wrapped bytes to what they are used as.
func wrappedAAD(name string, kind Kind) []byte {
	return []byte("gardu wrapped key\x00" + string(kind) + "\x00" + name)
}

func (h *held) fault(err error, hint string) error {
	return &Error{Op: "unwrap", Object: h.name, Err: err, Hint: hint}
}

const maxWrappedFile = 16 << 10

func (h *held) readFile() (*wrappedFile, error) {
	fd, err := os.OpenFile(h.spec.File, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, h.fault(fmt.Errorf("%w: there is no file %s", ErrKeyNotFound, h.spec.File),
			"import the key with `gardu keys import "+h.base+" KIND --file FILE`, which writes it")
	}
	if err != nil {
		return nil, h.fault(configuration("%v", err), "make the file readable for gardu's user only")
	}
	defer func() { _ = fd.Close() }()
	var st unix.Stat_t
	if err := unix.Fstat(int(fd.Fd()), &st); err != nil {
		return nil, h.fault(configuration("%v", err), "make the file readable for gardu's user only")
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Mode&0o077 != 0 || st.Uid != 0 && st.Uid != uint32(os.Geteuid()) { //nolint:gosec // a uid fits
		return nil, h.fault(configuration("%s can be read or written by others, or is not gardu's", h.spec.File),
			"chown it to gardu's user and chmod it 0600, and find out who could read it")
	}
	b, err := io.ReadAll(io.LimitReader(fd, maxWrappedFile))
	if err != nil {
		return nil, h.fault(configuration("%v", err), "check the disk")
	}
	var f wrappedFile
	if err := json.Unmarshal(b, &f); err != nil || f.What != wrappedWhat || f.Version != wrappedVersion {
		return nil, h.fault(fmt.Errorf("%w: %s is no wrapped key", ErrKeyGiven, h.spec.File), "import the key again")
	}
	return &f, nil
}

// open unwraps the key, once.
func (h *held) open(ctx context.Context) error {
	h.mu.RLock()
	ready := h.mem != nil
	h.mu.RUnlock()
	if ready {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mem != nil {
		return nil
	}
	f, err := h.readFile()
	if err != nil {
		return err
	}
	sealed, err := f.sealed()
	if err != nil {
		return h.fault(err, "import the key again")
	}
	value, err := h.by.Unwrap(ctx, sealed, wrappedAAD(h.base, f.kind()))
	if err != nil {
		return explain("unwrap", h.name, err)
	}
	defer clear(value)
	return h.keep(f.kind(), f.KCV, value)
}

// keep checks the value against its check value and puts it into locked memory.
func (h *held) keep(kind Kind, kcv string, value []byte) error {
	if have, err := kcvOf(kind, value); err != nil || have != kcv {
		return h.fault(fmt.Errorf("%w: its check value is not the one in the file", ErrRefused), "import the key again, and find out who changed the file")
	}
	mem, err := lockedMemory(len(value))
	if err != nil {
		return h.fault(configuration("memory cannot be locked, so the key might be written to swap: %v", err), "set LimitMEMLOCK= of the service to 1M or more")
	}
	copy(mem, value)
	h.mem, h.size, h.kind = mem, len(value), kind
	h.info = KeyInfo{Label: h.base, Class: "wrapped", Type: "aes", Bits: 8 * len(value), KCV: kcv, Attributes: map[string]string{}}
	if kind == KindHMAC {
		h.info.Type = "generic"
	}
	h.s.opts.Log.Warn("a key was unwrapped into memory", "key", h.name, "check_value", kcv)
	return nil
}

// lockedMemory is memory that is neither swapped nor dumped nor inherited.
func lockedMemory(n int) ([]byte, error) {
	page := os.Getpagesize()
	b, err := unix.Mmap(-1, 0, (n+page-1)/page*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, err
	}
	if err := unix.Mlock(b); err != nil {
		_ = unix.Munmap(b)
		return nil, err
	}
	_ = unix.Madvise(b, unix.MADV_DONTDUMP)
	_ = unix.Madvise(b, unix.MADV_DONTFORK)
	return b, nil
}

func (h *held) wipe() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mem != nil {
		clear(h.mem)
		_ = unix.Munmap(h.mem)
		h.mem = nil
	}
}

// use runs f with the key's bytes, if it is of one of the kinds.
func (h *held) use(ctx context.Context, kinds []Kind, f func(key []byte) ([]byte, error)) ([]byte, error) {
	if h.s.isClosed() {
		return nil, explain("use", h.name, ErrClosed)
	}
	if err := h.open(ctx); err != nil {
		return nil, err
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	if h.mem == nil {
		return nil, explain("use", h.name, ErrClosed)
	}
	if len(kinds) > 0 && !slices.Contains(kinds, h.kind) {
		return nil, h.fault(fmt.Errorf("%w: the file %s holds a key of kind %s", ErrUnsupported, h.spec.File, h.kind),
			fmt.Sprintf("its role needs one of kind %s: remove the file and import that", kinds[0]))
	}
	return f(h.mem[:h.size])
}

func (s *Store) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

func (h *held) sum(ctx context.Context, data []byte) ([]byte, error) {
	return h.use(ctx, []Kind{KindHMAC}, func(key []byte) ([]byte, error) {
		m := hmac.New(sha512.New, key)
		_, _ = m.Write(data)
		return m.Sum(nil), nil
	})
}

func (h *held) crypt(ctx context.Context, op protocol.Op, iv, data []byte, bits []int) ([]byte, error) {
	kinds := []Kind{KindAES192, KindAES256}
	if len(bits) > 0 {
		kinds = slices.DeleteFunc(kinds, func(k Kind) bool { return !slices.Contains(bits, int(recipes[k].bits)) })
	}
	return h.use(ctx, kinds, func(key []byte) ([]byte, error) {
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, explain("use", h.name, fmt.Errorf("%w: %w", ErrUnsupported, err))
		}
		out := make([]byte, len(data))
		if op == protocol.OpEncrypt {
			cipher.NewCBCEncrypter(block, iv).CryptBlocks(out, data)
		} else {
			cipher.NewCBCDecrypter(block, iv).CryptBlocks(out, data)
		}
		return out, nil
	})
}

func (h *held) tested() *key { return nil }

// selfTest computes the check value anew from what is in memory.
func (h *held) selfTest(ctx context.Context) error {
	_, err := h.use(ctx, nil, func(key []byte) ([]byte, error) {
		if have, err := kcvOf(h.kind, key); err != nil || have != h.info.KCV {
			return nil, h.fault(fmt.Errorf("%w: it is not what it was", ErrDevice), "restart gardu, and test the machine's memory")
		}
		return nil, nil
	})
	return err
}

func kcvOf(kind Kind, value []byte) (string, error) {
	if kind == KindHMAC {
		m := hmac.New(sha512.New, value)
		return hex.EncodeToString(m.Sum(nil)[:3]), nil
	}
	if kind == KindAES192 || kind == KindAES256 {
		block, err := aes.NewCipher(value)
		if err != nil || 8*len(value) != int(recipes[kind].bits) {
			return "", errors.New("it has another length than its kind")
		}
		out := make([]byte, aes.BlockSize)
		block.Encrypt(out, out)
		return hex.EncodeToString(out[:3]), nil
	}
	return "", errors.New("keys of this kind are not wrapped")
}

// ImportWrapped writes the file of a key that the configuration names as wrapped,
// reads it again and compares. A file that is there is not replaced.
func (s *Store) ImportWrapped(ctx context.Context, n NewKey, value *secret.Value) (KeyInfo, error) {
	h := s.held[n.Label]
	if h == nil {
		return KeyInfo{}, explain("import", n.Label, configuration("the configuration does not name it as wrapped"))
	}
	info, err := h.importKey(ctx, n, value)
	return info, explain("import", n.Label, err)
}

func (h *held) importKey(ctx context.Context, n NewKey, value *secret.Value) (KeyInfo, error) {
	b := value.Bytes()
	if n.Kind == KindHMAC && len(b) < shortSecret && !n.AllowWeak {
		return KeyInfo{}, tooShort(n.Label, len(b))
	}
	if n.Kind == KindHMAC && len(b) > sha512.BlockSize {
		d := sha512.Sum512(b) // as HMAC itself does
		b = d[:]
	}
	kcv, err := kcvOf(n.Kind, b)
	if err != nil {
		return KeyInfo{}, given("compare kind and encoding with what the provider says; only hmac-sha512, aes-192 and aes-256 keys are wrapped",
			"%d bytes as %s: %v", len(b), n.Kind, err)
	}
	if want := hex.EncodeToString(n.Check); want != "" && want != kcv {
		return KeyInfo{}, given("ask the sender", "its check value is %s and not %s: it is another key than was announced", kcv, want)
	}
	sealed, err := h.by.Wrap(ctx, b, wrappedAAD(h.base, n.Kind))
	if err != nil {
		return KeyInfo{}, err
	}
	text, err := json.MarshalIndent(&wrappedFile{
		What: wrappedWhat, Version: wrappedVersion, Name: h.base, Kind: string(n.Kind), KCV: kcv,
		By: h.by.WrappedBy(sealed), Wrapped: base64.StdEncoding.EncodeToString(sealed),
	}, "", "  ")
	if err != nil {
		return KeyInfo{}, fmt.Errorf("%w: %w", ErrKeyGiven, err)
	}
	if err := writeOnce(h.spec.File, append(text, '\n')); err != nil {
		return KeyInfo{}, err
	}
	info, err := h.describe(ctx)
	if err != nil {
		_ = os.Remove(h.spec.File)
	}
	return info, err
}

// writeOnce writes a new file to disk, whole or not at all.
func writeOnce(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600) //nolint:gosec // the configuration's path
	if errors.Is(err, os.ErrExist) {
		return &Error{Err: fmt.Errorf("%w: there is a file %s", ErrKeyExists, path), Hint: "remove it once nothing needs the key in it, then import again"}
	}
	if err != nil {
		return given("make its folder writable for this user", "write the wrapped key: %v", err)
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		var d *os.File
		if d, err = os.Open(filepath.Dir(path)); err == nil {
			err = errors.Join(d.Sync(), d.Close())
		}
	}
	if err != nil {
		_ = os.Remove(path)
		return given("look at the disk, then import again", "write the wrapped key: %v", err)
	}
	return nil
}

func (h *held) describe(ctx context.Context) (KeyInfo, error) {
	if err := h.open(ctx); err != nil {
		return KeyInfo{}, err
	}
	if err := h.selfTest(ctx); err != nil {
		return KeyInfo{}, err
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.info, nil
}

// WrappedBy names the generation of the wrapping key under which a wrapped key stands in
// its file, without the token. ErrKeyNotFound where there is no file.
func (s *Store) WrappedBy(name string) (string, error) {
	h := s.held[name]
	if h == nil {
		return "", explain("use", name, configuration("the configuration does not name it as wrapped"))
	}
	f, err := h.readFile()
	if err != nil {
		return "", err
	}
	sealed, err := f.sealed()
	if err != nil {
		return "", h.fault(err, "import the key again")
	}
	return h.by.WrappedBy(sealed), nil
}

// DescribeWrapped unwraps a wrapped key and describes it; its name is the object= of
// its URI.
func (s *Store) DescribeWrapped(ctx context.Context, name string) (KeyInfo, error) {
	h := s.held[name]
	if h == nil {
		return KeyInfo{}, explain("use", name, configuration("the configuration does not name it as wrapped"))
	}
	return h.describe(ctx)
}
