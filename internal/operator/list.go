package operator

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"gardu/internal/config"
	"gardu/internal/secret"
)

const (
	minSeed       = 16 // bytes; RFC 4226, 4: at least 128 bits
	recoveryCount = 10
	recoveryLen   = 10 // letters and digits of Base32: 50 bits
	maxID         = 32
)

type operator struct {
	id       string
	seed     *secret.Value
	recovery [][sha256.Size]byte
}

// entry is an operator as the file has them.
type entry struct {
	ID       string   `toml:"id"`
	Seed     string   `toml:"seed"`
	Recovery []string `toml:"recovery"`
}

var seedEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// read reads the operators' file. One that is not there names nobody, so that taking
// it away shuts the screen. Errors are *config.Error.
func read(path string) (map[string]*operator, error) {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]*operator{}, nil
	}
	if err == nil && st.Mode().Perm()&0o007 != 0 {
		return nil, &config.Error{File: path, Err: errors.New("everybody on this machine can read it"), Hint: "chmod it to 0600 or 0640"}
	}
	var f struct {
		Operator []entry `toml:"operator"`
	}
	if err := config.Read(path, &f); err != nil {
		return nil, err
	}
	all := map[string]*operator{}
	for _, e := range f.Operator {
		o, key, err := e.parse()
		if err == nil && all[o.id] != nil {
			key, err = "id", fmt.Errorf("%s is there twice", o.id)
		}
		if err != nil {
			return nil, &config.Error{File: path, Key: "operator." + key, Err: err, Hint: "write the table anew with 'gardu ui operator add'"}
		}
		all[o.id] = o
	}
	return all, nil
}

// parse returns the key at fault with an error.
func (e *entry) parse() (o *operator, key string, _ error) {
	if err := checkID(e.ID); err != nil {
		return nil, "id", err
	}
	o = &operator{id: e.ID}
	seed, err := seedEncoding.DecodeString(strings.ToUpper(strings.TrimRight(strings.ReplaceAll(e.Seed, " ", ""), "=")))
	if err != nil || len(seed) < minSeed {
		clear(seed)
		return nil, "seed", fmt.Errorf("the seed of %s is not Base32 of at least %d bytes", e.ID, minSeed)
	}
	o.seed = secret.New(seed)
	for _, s := range e.Recovery {
		b, err := hex.DecodeString(s)
		if err != nil || len(b) != sha256.Size {
			return nil, "recovery", fmt.Errorf("a recovery code's digest of %s is not %d hexadecimal digits", e.ID, 2*sha256.Size)
		}
		o.recovery = append(o.recovery, [sha256.Size]byte(b))
	}
	return o, "", nil
}

func checkID(id string) error {
	if id == "" || len(id) > maxID {
		return fmt.Errorf("an id has 1 to %d digits", maxID)
	}
	for i := range len(id) {
		if id[i] < '0' || id[i] > '9' {
			return fmt.Errorf("id %q has other than digits; the screen's keypad has no more", id)
		}
	}
	return nil
}

func recoveryDigest(id string, code []byte) [sha256.Size]byte {
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "gardu recovery code\x00%s\x00", id)
	h.Write(code)
	return [sha256.Size]byte(h.Sum(nil))
}
