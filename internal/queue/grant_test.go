package queue_test

import (
	"bytes"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"gardu/internal/queue"
	"gardu/internal/txn"
)

const (
	granted      = "081139291900"
	grantContent = "customer-token-canary-4fa1"
)

func grantOf(t *testing.T, db *queue.DB, provider, customer string) string {
	t.Helper()
	v, err := db.Grant(t.Context(), provider, customer)
	require.NoError(t, err)
	defer v.Wipe()
	return string(v.Bytes())
}

func soon() time.Time { return time.Now().Add(time.Hour) }

func TestGrantIsKeptPerProviderAndCustomer(t *testing.T) {
	opt := options(t)
	db := open(t, opt)
	require.Empty(t, grantOf(t, db, "finpay", granted))
	require.NoError(t, db.DropGrant(t.Context(), "finpay", granted), "nothing to drop is no error")
	require.NoError(t, db.KeepGrant(t.Context(), "finpay", granted, pin(grantContent), soon()))
	require.Equal(t, grantContent, grantOf(t, db, "finpay", granted))
	require.Empty(t, grantOf(t, db, "finpay", granted+"1"))
	require.Empty(t, grantOf(t, db, "netzme", granted))
	require.Empty(t, grantOf(t, db, "finpay\x00"+granted, ""), "name and customer do not run together")

	require.NoError(t, db.KeepGrant(t.Context(), "finpay", granted, pin("another"), soon()))
	require.NoError(t, db.Close())
	db = open(t, opt)
	require.Equal(t, "another", grantOf(t, db, "finpay", granted), "it outlives the process")
	require.NoError(t, db.DropGrant(t.Context(), "finpay", granted))
	require.Empty(t, grantOf(t, db, "finpay", granted))
	require.ErrorIs(t, db.KeepGrant(t.Context(), "finpay", granted, pin(""), soon()), queue.ErrTooLarge)
}

// TestGrantSaysNothingOnDisk looks for customer, provider and content in every byte
// of every file.
func TestGrantSaysNothingOnDisk(t *testing.T) {
	opt := options(t)
	db := open(t, opt)
	require.NoError(t, db.KeepGrant(t.Context(), "finpay", granted, pin(grantContent), soon()))
	require.NoError(t, db.Close())
	b, err := os.ReadFile(opt.Path)
	require.NoError(t, err)
	for _, s := range []string{granted, grantContent, "finpay"} {
		require.False(t, bytes.Contains(b, []byte(s)), "%s stands in the file", s)
	}
}

func TestGrantThatIsOverIsGone(t *testing.T) {
	opt := options(t).WithIdle(20 * time.Millisecond).WithGrantPurge(30 * time.Millisecond)
	db := open(t, opt)
	require.NoError(t, db.KeepGrant(t.Context(), "finpay", "0822", pin("stays"), soon()))
	for lasts, seen := 50*time.Millisecond, false; !seen; lasts *= 2 { // on a busy machine it may be over before it is read
		until := time.Now().Add(lasts)
		require.NoError(t, db.KeepGrant(t.Context(), "finpay", granted, pin(grantContent), until))
		got := grantOf(t, db, "finpay", granted)
		if seen = time.Now().Before(until.Truncate(time.Millisecond)); seen {
			require.Equal(t, grantContent, got)
		}
		require.Less(t, lasts, patience)
	}
	require.Eventually(t, func() bool { return grantOf(t, db, "finpay", granted) == "" }, patience, 10*time.Millisecond)
	require.Eventually(t, func() bool { return len(queue.GrantNames(t, db)) == 1 }, patience, 10*time.Millisecond)
	require.NoError(t, db.Close())
	require.Equal(t, 1, grantsIn(t, opt.Path), "the one that is over was deleted")
}

// TestGrantThatIsKeptAnewIsNotOver: between the look at what is over and its end the
// customer may have bound again.
func TestGrantThatIsKeptAnewIsNotOver(t *testing.T) {
	db := open(t, quickOptions(t))
	for _, customer := range []string{granted, "0822"} {
		require.NoError(t, db.KeepGrant(t.Context(), "finpay", customer, pin("over"), time.Now()))
	}
	over := queue.GrantNames(t, db)
	require.Len(t, over, 2)
	require.NoError(t, db.KeepGrant(t.Context(), "finpay", granted, pin(grantContent), soon()))
	require.NoError(t, db.EndGrants(t.Context(), over))
	require.Equal(t, grantContent, grantOf(t, db, "finpay", granted))
	require.Len(t, queue.GrantNames(t, db), 1)
}

func grantsIn(t *testing.T, path string) (n int) {
	t.Helper()
	b, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	require.NoError(t, err)
	require.NoError(t, b.View(func(tx *bbolt.Tx) error {
		n = tx.Bucket(queue.BucketGrants).Stats().KeyN
		return nil
	}))
	require.NoError(t, b.Close())
	return n
}

func TestGrantThatWasChangedDoesNotOpen(t *testing.T) {
	opt := options(t)
	db := open(t, opt)
	require.NoError(t, db.KeepGrant(t.Context(), "finpay", granted, pin(grantContent), soon()))
	require.NoError(t, db.KeepGrant(t.Context(), "finpay", "0822", pin("another customer's"), soon()))
	require.NoError(t, db.Close())
	for name, change := range map[string]func(k, v, other []byte) []byte{
		"a bit of the box":       func(_, v, _ []byte) []byte { v[len(v)-1] ^= 1; return v },
		"a later end":            func(_, v, _ []byte) []byte { v[5]++; return v },
		"another customer's":     func(_, _, other []byte) []byte { return other },
		"the mark":               func(_, v, _ []byte) []byte { v[0] = 'X'; return v },
		"cut off in the middle":  func(_, v, _ []byte) []byte { return v[:20] },
		"nothing but the header": func(_, v, _ []byte) []byte { return v[:12] },
	} {
		t.Run(name, func(t *testing.T) {
			own := opt
			own.Path = t.TempDir() + "/journal.db"
			for _, suffix := range []string{"", ".witness"} {
				b, err := os.ReadFile(opt.Path + suffix)
				require.NoError(t, err)
				require.NoError(t, os.WriteFile(own.Path+suffix, b, 0o600))
			}
			b, err := bbolt.Open(own.Path, 0o600, nil)
			require.NoError(t, err)
			require.NoError(t, b.Update(func(tx *bbolt.Tx) error {
				g := tx.Bucket(queue.BucketGrants)
				c := g.Cursor()
				k1, v1 := c.First()
				k2, v2 := c.Next()
				if err := g.Put(bytes.Clone(k1), change(k1, bytes.Clone(v1), bytes.Clone(v2))); err != nil {
					return err
				}
				return g.Put(bytes.Clone(k2), change(k2, bytes.Clone(v2), bytes.Clone(v1)))
			}))
			require.NoError(t, b.Close())
			db := open(t, own)
			for _, customer := range []string{granted, "0822"} {
				_, err := db.Grant(t.Context(), "finpay", customer)
				require.ErrorIs(t, err, txn.ErrSeal)
				require.NoError(t, db.KeepGrant(t.Context(), "finpay", customer, pin("anew"), soon()))
				require.Equal(t, "anew", grantOf(t, db, "finpay", customer))
			}
		})
	}
}

func TestGrantsFollowTheKEK(t *testing.T) {
	opt := options(t)
	db := open(t, opt)
	require.NoError(t, db.KeepGrant(t.Context(), "finpay", granted, pin(grantContent), soon()))
	r := request("081234567890")
	require.NoError(t, db.Add(t.Context(), r, nil))
	require.NoError(t, db.Close())

	old := opt.KEK.(*memKEK)
	opt.KEK = &rotated{memKEK: newKEK(t, "journal-kek@g2"), old: old}
	db = open(t, opt)
	require.Equal(t, grantContent, grantOf(t, db, "finpay", granted))
	require.NoError(t, db.Update(t.Context(), r, nil))
	require.NoError(t, db.Update(t.Context(), r, nil))
	require.NoError(t, db.Close())
	opt.KEK = opt.KEK.(*rotated).memKEK
	db = open(t, opt)
	require.Equal(t, grantContent, grantOf(t, db, "finpay", granted), "the old key is needed no more")

	// A token that is away is an error, not an empty vault.
	require.NoError(t, db.Close())
	db = open(t, opt)
	away := fmt.Errorf("token absent")
	opt.KEK.(*memKEK).fail.Store(&away)
	_, err := db.Grant(t.Context(), "finpay", granted)
	require.ErrorIs(t, err, away)
	require.ErrorIs(t, db.KeepGrant(t.Context(), "finpay", granted, pin("x"), soon()), away)
	opt.KEK.(*memKEK).fail.Store(nil)
	require.Equal(t, grantContent, grantOf(t, db, "finpay", granted))
}

// TestGrantKeyThatIsLost: the customers bind again, and the vault works on.
func TestGrantKeyThatIsLost(t *testing.T) {
	opt := options(t)
	db := open(t, opt)
	require.NoError(t, db.KeepGrant(t.Context(), "finpay", granted, pin(grantContent), soon()))
	require.NoError(t, db.Close())
	changeMeta(t, opt.Path, queue.MetaGrantKey, []byte("spoilt"))
	db = open(t, opt)
	_, err := db.Grant(t.Context(), "finpay", granted)
	require.ErrorIs(t, err, queue.ErrKeyMismatch)
	require.NoError(t, db.KeepGrant(t.Context(), "finpay", "0822", pin("anew"), soon()))
	require.Equal(t, "anew", grantOf(t, db, "finpay", "0822"))
	require.Empty(t, grantOf(t, db, "finpay", granted))
	require.NoError(t, db.Close())
	require.Equal(t, 1, grantsIn(t, opt.Path), "what nothing opens is not kept")
}

func TestGrantsOfManyAtOnce(t *testing.T) {
	db := open(t, quickOptions(t))
	var all sync.WaitGroup
	for i := range 40 {
		all.Go(func() {
			who := fmt.Sprintf("08%02d", i)
			if err := db.KeepGrant(t.Context(), "finpay", who, pin("token of "+who), soon()); err != nil {
				t.Errorf("keep: %v", err)
			}
		})
	}
	all.Wait()
	for i := range 40 {
		who := fmt.Sprintf("08%02d", i)
		require.Equal(t, "token of "+who, grantOf(t, db, "finpay", who))
	}
}
