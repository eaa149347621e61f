package queue_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/queue"
	"gardu/internal/txn"
)

// mixed makes a journal that has lived: requests in several states, each rewritten
// a few times, some with a PIN. It returns what is in it at the end.
func mixed(t *testing.T, n int) (queue.Options, map[string]*txn.Request) {
	t.Helper()
	opt := options(t)
	db, err := queue.Open(t.Context(), opt)
	require.NoError(t, err)
	all := map[string]*txn.Request{}
	for i := range n {
		r := request(fmt.Sprintf("0812%08d", i))
		r.At.Wall = time.Unix(1_800_000_000, 0).UTC()
		r.State = txn.Queued
		if i%5 == 0 {
			r.Secret = txn.SecretPIN
			require.NoError(t, db.Add(t.Context(), r, pin("493817")))
		} else {
			require.NoError(t, db.Add(t.Context(), r, nil))
		}
		for step := range i % 4 {
			r.State, r.Secret = []txn.State{txn.Sending, txn.InDoubt, txn.Succeeded}[step], ""
			r.At.Wall = r.At.Wall.Add(time.Second)
			if step == 0 {
				r.Attempts = append(r.Attempts, txn.Attempt{Step: 1, Serial: uint64(i), ExternalID: fmt.Sprintf("%032d", i), Began: r.At.Wall}) //nolint:gosec // G115: small
			}
			require.NoError(t, db.Update(t.Context(), r, nil))
		}
		all[r.ID] = r
	}
	require.NoError(t, db.Close())
	return opt, all
}

func salvaged(t *testing.T, opt queue.Options) (*queue.DB, *queue.Salvaged, map[string]*txn.Request) {
	t.Helper()
	require.ErrorIs(t, refused(t, opt), queue.ErrDamaged)
	damaged, err := os.ReadFile(opt.Path)
	require.NoError(t, err)
	s, err := queue.Salvage(t.Context(), opt)
	require.NoError(t, err)
	kept, err := os.ReadFile(s.Kept)
	require.NoError(t, err)
	require.True(t, bytes.Equal(damaged, kept), "the damaged file is kept as it was")
	db := open(t, opt)
	require.NotEmpty(t, db.Behind(), "nobody knows what the lost part sent")
	require.NoError(t, db.Check(t.Context()))
	got := map[string]*txn.Request{}
	require.NoError(t, db.Each(t.Context(), func(r *txn.Request, err error) error {
		if err == nil {
			got[r.ID] = r
		}
		return err
	}))
	require.Len(t, got, s.Records)
	return db, s, got
}

func TestSalvageBringsBackEveryRequestWhoseSealIsWhole(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func([]byte){
		"both headers": func(b []byte) { clear(b[:2*4096]) },
		"the kind of each page": func(b []byte) {
			for at := 2 * 4096; at < len(b); at += 4096 {
				b[at+8] ^= 0x40
			}
		},
		"the table of each page": func(b []byte) {
			for at := 2 * 4096; at < len(b); at += 4096 {
				clear(b[at : at+32])
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			opt, all := mixed(t, 60)
			b, err := os.ReadFile(opt.Path)
			require.NoError(t, err)
			spoil(b)
			require.NoError(t, os.WriteFile(opt.Path, b, 0o600))
			db, s, got := salvaged(t, opt)
			require.Equal(t, all, got)
			require.Equal(t, len(all), s.Records)
			for _, r := range got { // the keys of PINs, which are elsewhere, still open
				if r.Secret == txn.SecretPIN {
					v, err := db.Secret(t.Context(), r)
					require.NoError(t, err)
					require.Equal(t, "493817", string(v.Bytes()))
				}
			}
			require.NoError(t, db.Add(t.Context(), request("081299999999"), nil), "and it goes on")
			require.NoError(t, db.AcceptBehind(t.Context()))
		})
	}
}

// TestSalvageInventsNothing spoils bytes at random. What comes back is a version
// that once was, never one that goes back behind an end, and the identity is new.
func TestSalvageInventsNothing(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // G404: repeatable damage
	lost := 0
	for range 20 {
		opt, all := mixed(t, 40)
		db, err := queue.Open(t.Context(), opt)
		require.NoError(t, err)
		before := db.Identity()
		require.NoError(t, db.Close())
		b, err := os.ReadFile(opt.Path)
		require.NoError(t, err)
		clear(b[:2*4096])
		for range 40 {
			b[2*4096+rng.IntN(len(b)-2*4096)] ^= byte(1 + rng.IntN(255))
		}
		require.NoError(t, os.WriteFile(opt.Path, b, 0o600))
		require.ErrorIs(t, refused(t, opt), queue.ErrDamaged)
		if _, err := queue.Salvage(t.Context(), opt); err != nil {
			require.ErrorIs(t, err, queue.ErrDamaged, "the damage hit every data key")
			require.FileExists(t, opt.Path)
			continue
		}
		db = open(t, opt)
		require.NotEqual(t, before.Salt, db.Identity().Salt, "no external id can come twice")
		found := 0
		require.NoError(t, db.Each(t.Context(), func(r *txn.Request, err error) error {
			require.NoError(t, err)
			found++
			want := all[r.ID]
			require.NotNil(t, want)
			require.Equal(t, want.Reference, r.Reference)
			require.Equal(t, want.Customer, r.Customer)
			require.LessOrEqual(t, len(r.Attempts), len(want.Attempts))
			if r.State.Final() {
				require.Equal(t, want, r)
			}
			return nil
		}))
		lost += len(all) - found
	}
	require.Positive(t, lost, "the damage did hit records")
}

func TestSalvageRefusesWhatItCannotRead(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func([]byte) []byte{
		"empty": func([]byte) []byte { return nil },
		"zeros": func(b []byte) []byte { clear(b); return b },
		"text":  func([]byte) []byte { return []byte("this is not a journal") },
	} {
		opt := written(t, 3)
		whole, err := os.ReadFile(opt.Path)
		require.NoError(t, err)
		spoiled := spoil(slices.Clone(whole))
		require.NoError(t, os.WriteFile(opt.Path, spoiled, 0o600))
		_, err = queue.Salvage(t.Context(), opt)
		require.ErrorIs(t, err, queue.ErrDamaged, name)
		require.ErrorContains(t, err, "settle by hand", name)
		b, err := os.ReadFile(opt.Path)
		require.NoError(t, err)
		require.True(t, bytes.Equal(spoiled, b), name)
		require.NoError(t, os.WriteFile(opt.Path, whole, 0o600))
	}

	opt := written(t, 3)
	other := opt
	other.KEK = newKEK(t, "another")
	_, err := queue.Salvage(t.Context(), other)
	require.ErrorIs(t, err, queue.ErrDamaged, "under another key nothing opens")

	absent := newKEK(t, "absent")
	away := errors.New("the token is away")
	absent.fail.Store(&away)
	other.KEK = absent
	_, err = queue.Salvage(t.Context(), other)
	require.ErrorIs(t, err, away, "a token that is away is waited for")

	db := open(t, opt)
	_, err = queue.Salvage(t.Context(), opt)
	var locked *queue.LockedError
	require.ErrorAs(t, err, &locked, "never under a running agent")
	require.Equal(t, 3, db.Stats().Items)
}

func TestSalvageLeavesOutWhatWasDeletedLongAgo(t *testing.T) {
	t.Parallel()
	opt := options(t)
	db, err := queue.Open(t.Context(), opt)
	require.NoError(t, err)
	old := request("081200000001")
	old.At.Wall = time.Unix(1_800_000_000, 0).UTC()
	kept := request("081200000002")
	kept.At.Wall, kept.State = old.At.Wall, txn.Unresolved
	fresh := request("081200000003")
	fresh.At.Wall = old.At.Wall.Add(72 * time.Hour)
	for _, r := range []*txn.Request{old, kept, fresh} {
		require.NoError(t, db.Add(t.Context(), r, nil))
	}
	require.NoError(t, db.Close())
	b, err := os.ReadFile(opt.Path)
	require.NoError(t, err)
	clear(b[:2*4096])
	require.NoError(t, os.WriteFile(opt.Path, b, 0o600))
	_, s, got := salvaged(t, opt)
	require.Equal(t, 1, s.Stale)
	require.Contains(t, got, kept.ID)
	require.Contains(t, got, fresh.ID)
	require.NotContains(t, got, old.ID)
}
